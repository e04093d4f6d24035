package state

import (
	"fmt"

	"accessor/checkpoint"
)

// Write makes many changes at once: all, or none. Of a key twice in puts, the last
// wins; a key in both lists is refused. Everything is copied. Errors: ErrInvalid,
// ErrDraftTooLarge.
func (d *Draft) Write(puts []Pair, dels [][]byte) error {
	size := 0
	for _, p := range puts {
		size += len(p.Key) + len(p.Value)
	}
	if size > MaxDraftSize {
		return d.failed("write to", fmt.Errorf("%w: %d bytes at once, at most %d", ErrDraftTooLarge, size, MaxDraftSize))
	}
	ws, err := checkpoint.NewWriteSet(puts, dels, d.a.store.Limits())
	if err != nil {
		return d.failed("write to", invalidDraft("%w", err))
	}
	for _, w := range ws {
		if err := d.checkKey(w.Key, w.Value); err != nil {
			return err
		}
	}
	return d.change("write to", func(all *draftWrites) error { return all.writeAll(ws) })
}

// writeAll makes changes of different keys: all, or none. Error: ErrDraftTooLarge.
func (w *draftWrites) writeAll(ws checkpoint.WriteSet) error {
	n := 0
	for _, one := range ws {
		n += w.growth(string(one.Key), len(one.Value))
	}
	if err := w.fits(n); err != nil {
		return err
	}
	for _, one := range ws {
		e := draftWrite{delete: one.Delete}
		if !one.Delete {
			e.value = append([]byte{}, one.Value...)
		}
		w.set(string(one.Key), e)
	}
	return nil
}
