package main

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/spf13/cobra"

	"accessor/api/listen"
	"accessor/checkpoint"
	"accessor/cmd/accessor/config"
	"accessor/state"
)

// newServe is `accessor serve`.
func newServe(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve --data DIR [--anchor FILE | --trust HASH:SLOT:ROOT --peer MULTIADDR] [flags]",
		Short: "Serve the store over HTTP on a Unix socket, and over TCP where configured",
		Long: `Opens the store in DIR, or makes it from the anchor in FILE, and serves it to the
validator's processes until SIGTERM or SIGINT. FILE is a jamtrace file, of which the
anchor line counts, or a published genesis.bin.

With --trust it makes the store of a block that you trust, without its state: what is
asked for is fetched from peers, and checked against the block's root; the whole state,
and the blocks since, are fetched in the background. docs/SERVE.md tells of peers.

Settings come from the configuration file, then ACCESSOR_… variables, then flags,
each over the one before; accessor config prints them all. Without any, it listens on
one Unix socket, accessor.sock in $XDG_RUNTIME_DIR or /run/accessor, that its owner
alone can use, for everything; and not on TCP. docs/SERVE.md says how sockets, roles
and tokens are set up.

SIGHUP reads the log level, and whom to ask, to serve and to keep out (peers, allow and
deny of [da]) again from the configuration. Under systemd, sockets that it hands over are
used, and it is told when the service is ready.

Exit status: 0 stopped in order, 78 settings, sockets or the store's place are wrong,
which a restart doesn't mend, 3 the store failed, 4 FILE can't be used.`,
		Example: `  accessor serve --data /var/lib/accessor --anchor genesis.bin
  accessor serve --config /etc/accessor/accessor.toml
  accessor serve --data new --trust $HASH:1200:$ROOT --peer /ip4/192.0.2.7/udp/4001/quic-v1/p2p/12D3Koo…
  curl --unix-socket $XDG_RUNTIME_DIR/accessor.sock http://localhost/v1/status`,
		Args: func(cmd *cobra.Command, args []string) error { return setupError(noArguments(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error { return setupError(serve(e, cmd)) },
	}
	settingFlags(cmd)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return setupError(usageError("%w", err)) })
	return cmd
}

func serve(e *env, cmd *cobra.Command) error {
	load := settings(cmd)
	loaded, err := load()
	if err != nil {
		return configError(err)
	}
	if err := checkServe(loaded); err != nil {
		return err
	}
	s, err := newService(e, loaded, load)
	if err != nil {
		return serveError(err)
	}
	return serveError(s.run(cmd.Context()))
}

// setupError gives what is wrong usage elsewhere the status by which a supervisor
// knows that a restart doesn't help. Go's runtime ends with status 2 after a panic.
func setupError(err error) error {
	if err != nil && statusOf(err) == exitUsage {
		return &exitError{exitSetup, err}
	}
	return err
}

// settingFlags are the flags that set what a configuration has.
func settingFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("config", "", "configuration file, TOML (default: $ACCESSOR_CONFIG, or none)")
	f.String("data", "", "directory of the store")
	f.String("anchor", "", "what a new store starts from: a jamtrace file, or a published genesis.bin")
	f.Bool("await-anchor", false, "start without a store, and wait for PUT /v1/anchor")
	f.String("trust", "", "what a new store starts from in place of FILE: HASH:SLOT:ROOT of a block whose state peers give")
	f.StringArray("peer", nil, "multiaddr, ending in /p2p/ID, of a node to ask for what is missing (instead of those configured)")
	f.StringArray("socket", nil, "Unix socket to listen on, for all roles (instead of those configured)")
	f.StringArray("listen", nil, "TCP address to listen on, for the configured clients (instead of those configured)")
	f.String("metrics-listen", "", "address of health and metrics, such as 127.0.0.1:9464")
	f.String("log-format", "auto", "auto (console on a terminal, JSON elsewhere), console or json")
}

// flagKeys are the settings of flags whose names differ.
var flagKeys = map[string]string{
	"socket": "sockets", "listen": "tcp", "log-level": "log.level", "log-format": "log.format",
	"metrics-listen": "metrics_listen", "await-anchor": "await_anchor", "data": "data", "anchor": "anchor",
	"trust": "trust", "peer": "da.peers", "bandwidth": "da.bandwidth",
}

// settings gives a function that loads the configuration that a command was given,
// each time it is called.
func settings(cmd *cobra.Command) func() (*config.Loaded, error) {
	in := config.Input{Environ: os.Environ(), Flags: make(map[string]config.Flag)}
	flags := cmd.Flags()
	in.File, _ = flags.GetString("config")
	for name, key := range flagKeys {
		flag := flags.Lookup(name)
		if flag == nil || !flag.Changed {
			continue
		}
		var value any = flag.Value.String()
		if list, err := flags.GetStringArray(name); err == nil {
			value = list
		}
		in.Flags[key] = config.Flag{Name: name, Value: value}
	}
	return func() (*config.Loaded, error) { return config.Load(in) }
}

// configError: what is wrong with a configuration is wrong usage.
func configError(err error) error { return &exitError{exitUsage, err} }

// checkServe says what is missing to serve, and how to give it.
func checkServe(c *config.Loaded) error {
	switch {
	case c.Data == "" && c.Anchor == "" && c.Trust == "":
		return usageError("no store and no anchor given: accessor serve --data DIR opens the store in DIR; " +
			"with --anchor FILE (a jamtrace file, or a published genesis.bin) it makes one there first")
	case c.Data == "":
		return usageError("an anchor, but no store given: say by --data DIR where the store is to be")
	case c.Anchor != "" && c.AwaitAnchor:
		return usageError("--anchor and --await-anchor exclude each other: either FILE or a client brings the anchor")
	}
	return nil
}

// serveError gives errors of starting their exit statuses.
func serveError(err error) error {
	var exit *exitError
	var bind *net.OpError // an address in use, a port of root's
	switch {
	case err == nil || errors.As(err, &exit):
		return err
	case errors.Is(err, listen.ErrPath), errors.Is(err, listen.ErrAddress), errors.Is(err, listen.ErrInUse),
		errors.Is(err, listen.ErrSecret), errors.Is(err, listen.ErrActivation),
		errors.As(err, &bind) && bind.Op == "listen", errors.Is(err, config.ErrInvalid), errors.Is(err, config.ErrFile):
		return configError(err)
	case errors.Is(err, state.ErrWrongRoot), errors.Is(err, state.ErrInvalid):
		return &exitError{exitInput, err}
	case errors.Is(err, checkpoint.ErrEmpty):
		return usageError("%w: give what it starts from by --anchor FILE, or a block to trust by --trust, or make it by accessor init or accessor replay", err)
	}
	return err
}

// interrupted says whether an error is that of a stop while starting.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}
