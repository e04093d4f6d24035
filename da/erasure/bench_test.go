package erasure

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A segment, 1 MiB, and the largest bundle; from shards 0 to 853, from shards of
// everywhere, and from parity alone.
func BenchmarkReconstruct(b *testing.B) {
	for _, length := range []int{4104, 1 << 20, 13_791_360} {
		for _, set := range []string{"early", "any", "last"} {
			c := Full()
			r := rand.New(rand.NewPCG(8, 9))
			shards, err := c.Encode(randomBytes(r, length))
			if err != nil {
				b.Fatal(err)
			}
			some := choose(c, shards, set, r)
			b.Run(fmt.Sprintf("%d/%s", length, set), func(b *testing.B) {
				b.SetBytes(int64(length))
				var times []time.Duration
				for b.Loop() {
					start := time.Now()
					if _, err := c.Reconstruct(some, length); err != nil {
						b.Fatal(err)
					}
					times = append(times, time.Since(start))
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "p50-ns")
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, length := range []int{4104, 1 << 20} {
		data := randomBytes(rand.New(rand.NewPCG(8, 9)), length)
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			b.SetBytes(int64(length))
			for b.Loop() {
				if _, err := Full().Encode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
