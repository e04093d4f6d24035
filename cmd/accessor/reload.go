package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"go.uber.org/zap"

	"accessor/cmd/accessor/config"
)

// followHangups reads the configuration again at each SIGHUP.
func (s *service) followHangups(ctx context.Context) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		if err := s.readAgain(); err != nil {
			s.log.Error("configuration is as before", zap.Error(err))
		}
	}
}

// readAgain takes in what can be changed while the service runs: the log level, and the
// lists of peers.
func (s *service) readAgain() error {
	next, err := s.reload()
	if err != nil {
		return err
	}
	if next.Data, err = filepath.Abs(next.Data); err != nil {
		return err
	}
	s.reloading.Lock()
	defer s.reloading.Unlock()
	now, later := s.current.Load().Reload(next)
	if err := s.setPeers(now); err != nil {
		return err
	}
	s.current.Store(now)
	setLevel(s.level, now.Log.Level, s.log)
	s.log.Info("log level and lists of peers are the configuration's; other settings are taken at a restart",
		zap.String("level", now.Log.Level), zap.Int("peers", len(now.DA.Peers)), zap.Strings("at_restart", later))
	return nil
}

// setPeers gives the node the lists of a configuration. Where there is none nothing is
// done: a node that is made later gets them then.
func (s *service) setPeers(c *config.Loaded) error {
	node := s.node.Load()
	if node == nil {
		if c.DA.On() && !s.config.DA.On() {
			s.log.Warn("there are peers now: they are asked after a restart")
		}
		return nil
	}
	cfg := c.Node()
	return node.SetLists(cfg.Peers, cfg.Allow, cfg.Deny)
}
