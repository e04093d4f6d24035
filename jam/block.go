package jam

import (
	"math"

	"accessor/forks"
)

// spec has the sizes of a chain on which the length of its encodings depends.
type spec struct {
	name       string
	validators int
	cores      int
	epoch      int // slots
}

var (
	tiny = spec{name: "tiny", validators: 6, cores: 2, epoch: 12}
	full = spec{name: "full", validators: 1023, cores: 341, epoch: 600}
)

// layout is one way in which headers and blocks have been encoded.
type layout struct {
	gp string // version of the Gray Paper
	spec
	early bool // as before 0.7.0
}

// layouts are tried in this order. A block without marks, assurances and
// disputes looks the same in both specs.
var layouts = []layout{
	{gp: "0.7", spec: tiny},
	{gp: "0.7", spec: full},
	{gp: "0.6", spec: tiny, early: true},
	{gp: "0.6", spec: full, early: true},
}

// likely says whether a header's author is one that can be: a validator's index,
// or that of a genesis.
func (l *layout) likely(author uint16) bool {
	return int(author) < l.validators || author == math.MaxUint16
}

// Sizes in bytes.
const (
	publicKeySize   = 32 // Bandersnatch and Ed25519 alike
	ed25519Size     = 64 // an Ed25519 signature
	ticketProofSize = 784
	ticketIDSize    = 32
)

// header decodes a header (Gray Paper 0.7.2, appendix C; before 0.7.0 the
// offenders mark stood in front of the author index).
func (l *layout) header(d *decoder) FullHeader {
	var h FullHeader
	if prefix := d.take(HeaderPrefixSize); prefix != nil {
		h.Header = parsePrefix(prefix)
	}
	if d.option() {
		h.EpochMark = d.take(2*forks.HashSize + l.validators*2*publicKeySize)
	}
	if d.option() {
		h.TicketsMark = d.take(l.epoch * (ticketIDSize + 1))
	}
	if l.early {
		h.Offenders = d.takeAll(publicKeySize)
	}
	if author := d.take(2); author != nil {
		h.Author = uint16(author[0]) | uint16(author[1])<<8
	}
	copy(h.EntropySource[:], d.take(SignatureSize))
	if !l.early {
		h.Offenders = d.takeAll(publicKeySize)
	}
	copy(h.Seal[:], d.take(SignatureSize))
	return h
}

// extrinsic passes over a block's extrinsic (Gray Paper 0.7.2, appendix C).
func (l *layout) extrinsic(d *decoder) {
	d.each(1+ticketProofSize, func() { // tickets
		d.nat()
		d.take(ticketProofSize)
	})
	d.each(4+1, func() { // preimages
		d.take(4)
		d.blob()
	})
	d.each(minReportSize, func() { // guarantees
		l.report(d)
		d.take(4)
		d.takeAll(2 + ed25519Size)
	})
	d.takeAll(forks.HashSize + (l.cores+7)/8 + 2 + ed25519Size) // assurances
	// Disputes: verdicts with the votes of a supermajority, culprits, faults.
	d.takeAll(forks.HashSize + 4 + (l.validators*2/3+1)*(1+2+ed25519Size))
	d.takeAll(forks.HashSize + publicKeySize + ed25519Size)
	d.takeAll(forks.HashSize + 1 + publicKeySize + ed25519Size)
}

const (
	packageSpecSize = 32 + 4 + 32 + 32 + 2 // hash, length, erasure root, exports root, number of exports
	contextSize     = 4*32 + 4             // anchor with two roots, lookup anchor, its slot
	// minReportSize is less than any report takes.
	minReportSize = packageSpecSize + contextSize
	// minDigestSize is that of a digest without output: service, code hash,
	// payload hash, gas, result tag, five numbers of one byte.
	minDigestSize = 4 + 32 + 32 + 8 + 1 + 5
)

// report passes over a work report (Gray Paper 0.7.2, appendix C; before 0.7.0
// the gas that the authorization used stood at the end).
func (l *layout) report(d *decoder) {
	d.take(packageSpecSize + contextSize)
	d.takeAll(forks.HashSize) // prerequisites
	d.nat()                   // core
	d.take(forks.HashSize)    // authorizer
	if !l.early {
		d.nat()
	}
	d.blob()                      // the authorizer's output
	d.takeAll(2 * forks.HashSize) // lookup of segment roots
	d.each(minDigestSize, d.digest)
	if l.early {
		d.nat()
	}
}

// digest passes over a work digest (Gray Paper 0.7.2, appendix C).
func (d *decoder) digest() {
	d.take(4 + 32 + 32 + 8)
	if d.u8() == 0 {
		d.blob()
	}
	for range 5 { // gas used, imports, extrinsics, their size, exports
		d.nat()
	}
}
