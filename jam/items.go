package jam

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// KeySize is the size of a state key in bytes.
const KeySize = 31

// SlotItem is the name of the state item that holds the block's timeslot, as a
// little-endian u32.
const SlotItem = "slot"

// accountPrefix begins the name of a service account's item; the service's id
// follows in decimal digits.
const accountPrefix = "account:"

// itemNames are the names of C(1) to C(16), in that order (Gray Paper 0.7.2,
// D.1).
var itemNames = [...]string{
	"auth-pools",           // α
	"auth-queues",          // φ
	"recent",               // β, recent history
	"safrole",              // γ
	"disputes",             // ψ
	"entropy",              // η
	"staging-validators",   // ι
	"active-validators",    // κ
	"previous-validators",  // λ
	"availability",         // ρ, reports that await availability
	SlotItem,               // τ
	"privileges",           // χ
	"statistics",           // π
	"ready-queue",          // ω
	"accumulated",          // ξ
	"accumulation-outputs", // θ
}

// slotKey is C(11).
var slotKey, _ = ItemKey(SlotItem)

// ItemNames gives the names of the state items C(1) to C(16), in the order of
// their keys. Service accounts have names too, account:N, which are not in it.
func ItemNames() []string { return slices.Clone(itemNames[:]) }

// ItemKey gives the key of a state item by its name: one of ItemNames, or
// account:N for the account of service N, N being a u32 in decimal digits
// without leading zeros. ok is false for any other name.
func ItemKey(name string) (key []byte, ok bool) {
	if i := slices.Index(itemNames[:], name); i >= 0 {
		key = make([]byte, KeySize)
		key[0] = byte(i + 1)
		return key, true
	}
	digits, ok := strings.CutPrefix(name, accountPrefix)
	if !ok {
		return nil, false
	}
	id, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || strconv.FormatUint(id, 10) != digits {
		return nil, false
	}
	return AccountKey(uint32(id)), true
}

// AccountKey gives the key of a service's account, C(255, id): 255, then the id's
// four bytes, little-endian, each followed by a zero, then zeros.
func AccountKey(id uint32) []byte {
	key := make([]byte, KeySize)
	key[0] = 255
	for i := range 4 {
		key[1+2*i] = byte(id >> (8 * i))
	}
	return key
}

// ItemName is the inverse of ItemKey: ok is false for a key that is not a named
// item's, such as a service's own.
func ItemName(key []byte) (name string, ok bool) {
	if len(key) != KeySize {
		return "", false
	}
	if n := int(key[0]); n >= 1 && n <= len(itemNames) && allZero(key[1:]) {
		return itemNames[n-1], true
	}
	if key[0] != 255 || key[2]|key[4]|key[6] != 0 || !allZero(key[8:]) {
		return "", false
	}
	id := binary.LittleEndian.Uint32([]byte{key[1], key[3], key[5], key[7]})
	return accountPrefix + strconv.FormatUint(uint64(id), 10), true
}

func allZero(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}
