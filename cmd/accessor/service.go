package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"accessor/api"
	"accessor/api/access"
	"accessor/api/listen"
	"accessor/api/metrics"
	"accessor/checkpoint/rocks"
	"accessor/cmd/accessor/config"
	"accessor/peers"
	"accessor/state"
)

// service is `accessor serve` at work.
type service struct {
	config  *config.Loaded
	reload  func() (*config.Loaded, error)
	log     *zap.Logger
	level   zap.AtomicLevel
	engine  *rocks.Engine
	metrics *metrics.Metrics
	notify  *notifier
	fetcher *peers.Fetcher // of the store; it asks nobody where there are no peers

	core    atomic.Pointer[state.Accessor] // nil until there is a store
	handler atomic.Pointer[api.Server]     // nil until the store is open
	node    atomic.Pointer[peering]        // nil where there are no peers, or no store yet
	server  *listen.Server
	health  *listen.Server
	opened  chan struct{}   // closed when there is a handler
	ending  context.Context // ends when the service begins to stop
	endNow  context.CancelFunc

	reloading sync.Mutex                    // held while current is replaced, and the node is given its lists
	current   atomic.Pointer[config.Loaded] // config, with what was changed since the start

	following sync.WaitGroup // of what is done with peers in the background
}

func newService(e *env, c *config.Loaded, reload func() (*config.Loaded, error)) (*service, error) {
	level, err := zapcore.ParseLevel(c.Log.Level)
	if err != nil {
		return nil, configError(err)
	}
	// Clients are told of places in it.
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return nil, err
	}
	s := &service{config: c, reload: reload, level: zap.NewAtomicLevelAt(level), engine: newEngine(),
		fetcher: &peers.Fetcher{}, opened: make(chan struct{})}
	s.current.Store(c)
	s.ending, s.endNow = context.WithCancel(context.Background())
	s.log = newLogger(e.stderr, s.level, c.Log.Format)
	s.metrics = metrics.New(programVersion(), s.engine.Name())
	s.notify = newNotifier(s)
	opts := c.Server()
	opts.Log = s.log
	s.server = listen.NewServer(http.HandlerFunc(s.serveHTTP), opts)
	opts.Connections = healthConnections
	s.health = listen.NewServer(http.HandlerFunc(s.serveHealth), opts)
	s.metrics.SetSource(metrics.Source{
		Stats: s.stats, Connections: s.server.Connections, Load: s.load, Forks: s.forks,
		Engine: s.engineUsage, Peers: s.peerStats, Partial: s.partialStats,
	})
	return s, nil
}

// healthConnections are for a scraper, a supervisor and a person or two.
const healthConnections = 64

// stats are the store's, where there is one.
func (s *service) stats() (st state.Stats, ok bool) {
	acc := s.core.Load()
	if acc == nil {
		return st, false
	}
	return acc.Stats(), true
}

// engineUsage is what the storage engine uses, where there is a store.
func (s *service) engineUsage() (u state.EngineUsage, ok bool) {
	acc := s.core.Load()
	if acc == nil {
		return u, false
	}
	return acc.EngineUsage()
}

// forks are the branches, where there is a store.
func (s *service) forks(most int) []state.Fork {
	acc := s.core.Load()
	if acc == nil {
		return nil
	}
	return acc.Forks(most)
}

// load is what the API has on its way, where there is one.
func (s *service) load() (l metrics.Load, ok bool) {
	up := s.handler.Load()
	if up == nil {
		return l, false
	}
	now := up.Load()
	return metrics.Load{Bodies: now.Bodies, Budget: now.Budget, Subscribers: now.Streams}, true
}

// run serves until the context ends.
func (s *service) run(ctx context.Context) (err error) {
	defer s.engine.Close()
	// Whatever is made is the owner's alone: what others get, they are given by its mode.
	unix.Umask(0o077)
	for _, w := range s.config.Warnings {
		s.log.Warn(w)
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() { s.notify.run(running) })
	background.Go(func() { s.followHangups(running) })

	// What is wrong with sockets shows before a store is opened, which can take long;
	// clients that come meanwhile are told so.
	sockets, err := s.config.Listeners()
	if err != nil {
		return err
	}
	listeners, err := sockets.Open()
	if err != nil {
		return s.whereSockets(err)
	}
	defer func() { err = errors.Join(err, closeListeners(listeners)) }()
	var serving errgroup.Group
	if err := s.startHealth(&serving); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end(&serving)) }()
	broken := s.serve(&serving, listeners)
	if err := s.open(ctx); err != nil {
		if interrupted(ctx, err) {
			s.log.Info("stopped while starting", zap.Error(err))
			return nil
		}
		return err
	}
	if err := s.makeHandler(); err != nil {
		return err
	}
	background.Go(func() { s.measureDisk(running) })
	s.notify.ready()
	select {
	case <-ctx.Done():
	case <-broken:
	}
	return nil
}

// serve serves the API's sockets, and says when one of them breaks.
func (s *service) serve(serving *errgroup.Group, listeners []*listen.Listener) (broken <-chan struct{}) {
	breaks := make(chan struct{})
	var once sync.Once // several may break
	for _, l := range listeners {
		serving.Go(func() error {
			if err := s.server.Serve(l); err != nil {
				defer once.Do(func() { close(breaks) })
				return fmt.Errorf("serve %s: %w", l.Where(), err)
			}
			return nil
		})
		for _, w := range l.Warnings() {
			s.log.Warn(w, zap.String("socket", l.Name()), zap.String("at", l.Where()))
		}
		s.log.Info("listening", zap.String("socket", l.Name()), zap.String("at", l.Where()))
	}
	return breaks
}

// whereSockets says what else there is to do where the default socket has no folder.
func (s *service) whereSockets(err error) error {
	if errors.Is(err, fs.ErrNotExist) && !s.config.Given("sockets") {
		return fmt.Errorf("%w, or say by --socket PATH where the socket is to be; by default it is in $XDG_RUNTIME_DIR, or in /run/accessor where that isn't set", err)
	}
	return err
}

// startHealth serves metrics_listen, where there is one: also while the store is
// being opened.
func (s *service) startHealth(serving *errgroup.Group) error {
	if s.config.Metrics == "" {
		return nil
	}
	l, err := listen.Open("metrics", s.config.Metrics, access.Client{Roles: access.Of(access.Observer)})
	if err != nil {
		return fmt.Errorf("metrics_listen: %w", err)
	}
	s.log.Info("serving health and metrics", zap.String("address", l.Where()))
	serving.Go(func() error { return s.health.Serve(l) })
	return nil
}

// makeHandler makes the API over the store.
func (s *service) makeHandler() error {
	opts := api.Options{
		Log: s.log, Limits: s.config.API(), Version: versionText(),
		Config:   func() any { return s.current.Load().Effective() },
		Ready:    s.ready,
		Observer: api.Observer{Route: s.metrics.Route, Refused: s.metrics.Refused},
	}
	if s.config.DA.On() {
		opts.Peers, opts.Items, opts.Erasure = s.whoAmong, itemSource{s}, erasureSource{s}
	}
	for _, r := range api.Refusals() {
		s.metrics.Refusable(r.Limit, r.Kind)
	}
	var err error
	if opts.PinAccess, err = s.config.PinAccess(); err != nil {
		return err
	}
	acc := s.core.Load()
	var core api.Core // nil, and not a nil *state.Accessor, where there is none
	if acc != nil {
		core = acc
		table, err := s.table(acc)
		if err != nil {
			return err
		}
		opts.Access = table
	} else {
		opts.Start = s.start
		if s.config.Given("items") {
			table, err := s.config.Access(true)
			if err != nil {
				return err
			}
			opts.Access = table
		}
	}
	handler, err := api.New(core, opts)
	if err != nil {
		return configError(err)
	}
	s.handler.Store(handler)
	close(s.opened)
	return nil
}

// end stops serving, and closes the store.
func (s *service) end(serving *errgroup.Group) error {
	began := time.Now()
	s.endNow()
	s.notify.stopping()
	up := s.handler.Load()
	if up != nil {
		s.log.Info("stopping", zap.Duration("drain", time.Duration(s.config.DrainTimeout)))
		up.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.config.DrainTimeout))
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		s.log.Warn("requests were cut off", zap.Error(err))
	}
	_ = s.health.Shutdown(ctx) // what scrapers asked, they ask again
	err := errors.Join(serving.Wait(), s.stopPeers())
	if acc := s.core.Load(); acc != nil {
		if failed := acc.Close(); failed != nil {
			err = errors.Join(err, fmt.Errorf("close store: %w", failed))
		}
	}
	if err == nil && up != nil {
		s.log.Info("stopped", zap.Duration("took", time.Since(began)))
	}
	return err
}

// ready says why the service isn't; nil where it is.
func (s *service) ready() error {
	acc := s.core.Load()
	switch {
	case s.ending.Err() != nil:
		return errors.New("stopping")
	case acc == nil:
		return errors.New("the store has no anchor yet")
	}
	return acc.Ready()
}

// measureEvery is how often the store's space is measured, which looks at every file.
const measureEvery = 10 * time.Minute

// measureDisk keeps the figure of the space that the store takes.
func (s *service) measureDisk(ctx context.Context) {
	for {
		if acc := s.core.Load(); acc != nil {
			if _, err := acc.DiskUsage(); err != nil {
				s.log.Debug("measure the store", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(measureEvery):
		}
	}
}

func closeListeners(list []*listen.Listener) error {
	var errs []error
	for _, l := range list {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
