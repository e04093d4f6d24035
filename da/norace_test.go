//go:build !race

package da

const raceEnabled = false
