package api

import (
	"strconv"
	"time"

	"accessor/jam"
)

// intParam reads a whole number of at least least; above most it is most.
func (c *call) intParam(name string, otherwise, least, most int) (int, error) {
	text := c.query.Get(name)
	if text == "" {
		return min(otherwise, most), nil
	}
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil || n < uint64(least) {
		return 0, badRequest("%s=%.40q: want a whole number of at least %d", name, text, least)
	}
	return int(min(n, uint64(most))), nil
}

// boolParam reads true or false; the name alone means true.
func (c *call) boolParam(name string, otherwise bool) (bool, error) {
	if !c.query.Has(name) {
		return otherwise, nil
	}
	switch text := c.query.Get(name); text {
	case "", "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	default:
		return false, badRequest("%s=%.40q: want true or false", name, text)
	}
}

// waitParam reads how long to wait, such as 5s; ok is false where the request doesn't
// say.
func (c *call) waitParam() (wait time.Duration, ok bool, err error) {
	text := c.query.Get("wait")
	if text == "" {
		return 0, false, nil
	}
	if text == "0" {
		return 0, true, nil
	}
	wait, err = time.ParseDuration(text)
	if err != nil || wait < 0 || wait > maxWait {
		return 0, false, badRequest("wait=%.40q: want a time such as 5s, at most %v", text, maxWait)
	}
	return wait, true, nil
}

// boundParam reads a bound of a range of keys, which may be shorter than keys are; nil
// where the request has none.
func (c *call) boundParam(name string) ([]byte, error) {
	text := c.query.Get(name)
	if text == "" {
		return nil, nil
	}
	key, err := jam.ParseKey(text)
	if err != nil {
		return nil, newFault("bad-key", "%s: %v", name, err)
	}
	if most := c.core.Limits().KeySize; len(key) > most {
		return nil, newFault("bad-key", "%s has %d bytes, at most %d", name, len(key), most)
	}
	return key, nil
}
