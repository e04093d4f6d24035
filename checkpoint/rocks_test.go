//go:build cgo

package checkpoint_test

import (
	"accessor/checkpoint"
	"accessor/checkpoint/rocks"
)

func init() {
	engines["rocks"] = func() (checkpoint.Engine, func()) {
		e := rocks.New(rocks.Options{})
		return e, e.Close
	}
}
