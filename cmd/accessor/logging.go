package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"accessor/api/listen"
)

// newLogger writes to a stream from a level on that can be changed: in words, or as
// JSON; auto means words where the stream is a terminal.
func newLogger(w io.Writer, level zapcore.LevelEnabler, format string) *zap.Logger {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.ISO8601TimeEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if format == "console" || format == "auto" && isTerminal(w) {
		config.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level))
}

// logLevels are those that can be set at run time.
var logLevels = []string{"debug", "info", "warn", "error"}

// levelRoute is GET and PUT /v1/log-level: {"level":"info"}.
type levelRoute struct {
	level zap.AtomicLevel
	log   *zap.Logger
}

type levelBody struct {
	Level string `json:"level"`
}

// maxLevelBody is more than any such body has.
const maxLevelBody = 1 << 10

// ServeHTTP implements http.Handler.
func (l levelRoute) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		var body levelBody
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLevelBody))
		if err := decoder.Decode(&body); err != nil || !slices.Contains(logLevels, body.Level) {
			listen.Refuse(w, http.StatusBadRequest, "bad-request", `want {"level":"…"} with one of `+strings.Join(logLevels, ", "))
			return
		}
		setLevel(l.level, body.Level, l.log)
	default:
		w.Header().Set("Allow", "GET, PUT")
		listen.Refuse(w, http.StatusMethodNotAllowed, "method-not-allowed", "this path has GET, PUT")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(levelBody{l.level.String()}) // who has gone needs no answer
}

// setLevel changes the level to one of logLevels, and says so whatever the level is.
func setLevel(level zap.AtomicLevel, name string, log *zap.Logger) {
	parsed, err := zapcore.ParseLevel(name)
	if err != nil {
		panic(err) // one of logLevels
	}
	if was := level.Level(); was != parsed {
		level.SetLevel(min(was, parsed, zap.InfoLevel))
		log.Info("log level changed", zap.Stringer("from", was), zap.Stringer("to", parsed))
	}
	level.SetLevel(parsed)
}
