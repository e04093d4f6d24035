package bench

import (
	"bytes"
	"fmt"
	"time"

	"accessor/da/erasure"
	"accessor/da/justify"
)

// low is the number of shards of the full code, from 0, of which large items are
// reconstructed fastest.
const low = 854

// coding measures how items come back from 342 of their 1,023 shards, each time another
// set of them.
func (r *daRun) coding() error {
	code := erasure.Full()
	const large = 1 << 20
	for _, c := range []struct {
		what string
		size int
		from int // shards from 0 of which a set is drawn
		must string
	}{
		{"segment of 4,104 bytes from 342 of shards 0…853", justify.SegmentSize, low, "≤ 2.5"},
		{"segment of 4,104 bytes from any 342 shards", justify.SegmentSize, code.N(), "≤ 50"},
		{"item of 1 MiB from 342 of shards 0…853", large, low, "≥ 50"},
		{"item of 1 MiB from any 342 shards", large, code.N(), ""},
	} {
		times, err := r.reconstruct(code, c.what, c.size, c.from)
		if err != nil {
			return err
		}
		row := DARow{What: c.what + ", p50", Value: percentile(times, 50), Unit: "ms", Must: c.must}
		if c.size == large {
			row.Value, row.Unit = float64(c.size)/1e3/row.Value, "MB/s"
		} else {
			row.Beside = fmt.Sprintf("p99 %.2f ms", percentile(times, 99))
		}
		r.add(row)
	}
	return nil
}

func (r *daRun) reconstruct(code *erasure.Code, what string, size, from int) (times []time.Duration, err error) {
	data := make([]byte, size)
	_, _ = r.chacha.Read(data)
	all, err := code.Encode(data)
	if err != nil {
		return nil, err
	}
	for i := range r.da.Items {
		r.Progress(what, int64(i), int64(r.da.Items))
		some := make([][]byte, code.N())
		for _, at := range r.rnd.Perm(from)[:code.K()] {
			some[at] = all[at]
		}
		start := time.Now()
		got, err := code.Reconstruct(some, size)
		times = append(times, time.Since(start))
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(got, data) {
			return nil, fmt.Errorf("%w: %s", errAnswer, what)
		}
	}
	return times, nil
}
