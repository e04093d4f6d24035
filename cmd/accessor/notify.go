package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// notifier tells systemd how the service is doing (sd_notify); without systemd it
// does nothing.
type notifier struct {
	s    *service
	up   atomic.Bool
	tell func(state string) error
}

func newNotifier(s *service) *notifier {
	return &notifier{s: s, tell: func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}}
}

// statusEvery is how often systemd is told what the service is doing.
const statusEvery = 10 * time.Second

// run says every now and then that the service lives: while it starts, that it
// needs more time; after that what the watchdog wants, as long as the store's
// figures can be had, which need each of its locks.
func (n *notifier) run(ctx context.Context) {
	every := statusEvery
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.s.log.Warn("systemd's watchdog", zap.Error(err))
	}
	if watchdog > 0 {
		every = min(every, watchdog/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		n.send(n.status(watchdog > 0))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *notifier) status(watchdog bool) string {
	if !n.up.Load() {
		// In microseconds; asked for anew at each turn.
		return fmt.Sprintf("STATUS=opening the store\nEXTEND_TIMEOUT_USEC=%d", (3 * statusEvery).Microseconds())
	}
	text := "STATUS=waiting for an anchor"
	if st, ok := n.s.stats(); ok {
		text = fmt.Sprintf("STATUS=head at slot %d, finalized %d, %d blocks, %d forks", st.Head.Slot, st.Finalized.Slot, st.Blocks, st.Leaves)
		if st.NotReady != nil {
			text += "; " + st.NotReady.Error()
		}
	}
	if watchdog {
		text += "\n" + daemon.SdNotifyWatchdog
	}
	return text
}

func (n *notifier) ready() {
	n.up.Store(true)
	n.send(daemon.SdNotifyReady + "\n" + n.status(true))
}

func (n *notifier) stopping() { n.send(daemon.SdNotifyStopping + "\nSTATUS=stopping") }

func (n *notifier) send(state string) {
	if err := n.tell(state); err != nil {
		n.s.log.Debug("tell systemd", zap.Error(err))
	}
}
