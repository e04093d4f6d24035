package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// redisProgram is looked for in the PATH.
const redisProgram = "redis-server"

// serveRedis starts a redis-server on a Unix socket, with the values; without effect
// where there is none.
func (r *apiRun) serveRedis() error {
	program, err := exec.LookPath(redisProgram)
	if err != nil {
		return nil
	}
	r.redis = filepath.Join(r.dir, "redis")
	cmd := exec.CommandContext(r.ctx, program, "--port", "0", "--unixsocket", r.redis, "--save", "", "--appendonly", "no", "--dir", r.dir)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", redisProgram, err)
	}
	r.servers.close = append(r.servers.close, func() error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil
	})
	c, err := r.awaitRedis()
	if err != nil {
		return err
	}
	defer c.Close()
	for i, key := range r.keys {
		if err := c.do(&request{bytes: command([]byte("SET"), key, r.values[i])}); err != nil {
			return err
		}
	}
	return nil
}

// awaitRedis connects to the server once it listens.
func (r *apiRun) awaitRedis() (*client, error) {
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	for {
		c, err := dialClient(ctx, r.redis, readRESP)
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(clientPatience))
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s doesn't listen: %w", redisProgram, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// command gives a command of RESP.
func command(args ...[]byte) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n", len(a))
		b = append(append(b, a...), "\r\n"...)
	}
	return b
}

// readRESP reads an answer of RESP: the values one after the other, 404 in place of
// one that isn't there, 500 for an error.
func readRESP(in *bufio.Reader, body []byte) (int, []byte, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, body, err
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return 0, body, fmt.Errorf("%w: an empty line", errAnswer)
	}
	kind := line[0]
	switch kind {
	case '+', ':':
		return 200, append(body, line[1:]...), nil
	case '-':
		return 500, append(body, line[1:]...), nil
	case '$', '*':
	default:
		return 0, body, fmt.Errorf("%w: %.80q", errAnswer, line)
	}
	n, err := strconv.Atoi(string(line[1:]))
	switch {
	case err != nil || n > 1<<28:
		return 0, body, fmt.Errorf("%w: %.80q", errAnswer, line)
	case n < 0:
		return 404, body, nil
	case kind == '$':
		status, body, err := readBody(in, 200, n, body)
		if err == nil {
			_, err = in.Discard(2)
		}
		return status, body, err
	}
	status := 200
	for range n {
		var one int
		if one, body, err = readRESP(in, body); err != nil {
			return 0, body, err
		}
		status = max(status, one)
	}
	return status, body, nil
}
