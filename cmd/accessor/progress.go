package main

import (
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress is a bar on a terminal, and nothing elsewhere.
type progress struct {
	mu   sync.Mutex
	name string
	pool *mpb.Progress
	bar  *mpb.Bar
	what string
}

func newProgress(w io.Writer, name string) *progress {
	p := &progress{name: name}
	if isTerminal(w) {
		p.pool = mpb.New(mpb.WithOutput(w), mpb.WithWidth(60), mpb.WithRefreshRate(100*time.Millisecond))
	}
	return p
}

// set shows that so much is done; all is 0 where nobody knows how much there is.
func (p *progress) set(what string, done, all int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool == nil {
		return
	}
	if p.bar == nil || what != p.what {
		p.endLocked()
		p.what = what
		p.bar = p.pool.AddBar(all,
			mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(p.name+": "+what+" ")),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 6})))
	}
	if all > 0 {
		p.bar.SetTotal(all, false)
	}
	p.bar.SetCurrent(done)
}

func (p *progress) endLocked() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bar = nil
	}
}

// done takes the bar off the terminal.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool == nil {
		return
	}
	p.endLocked()
	p.pool.Wait()
	p.pool = nil
}
