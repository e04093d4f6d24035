package merkle

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"

	"accessor/forks"
	"golang.org/x/crypto/blake2b"
)

// Statement is a request and the proof that answers it, as they are kept in a
// file or passed on: whoever trusts the root can check it.
type Statement struct {
	// Block is the block that the state is said to be at. A root proves a state,
	// not whose it is.
	Block forks.Hash
	// Keys are what was asked for, in strictly ascending order, unless it was a
	// range.
	Keys  [][KeySize]byte
	Range *RangeRequest
	Proof Proof
}

// Answer is what a statement proves.
type Answer struct {
	// Pairs are the keys asked for, a nil value for an absent one; or those of a
	// range.
	Pairs []Pair
	// More says that a range may go on above the last pair.
	More bool
}

// Verify checks a statement against a state's root. Errors: ErrProof, ErrOrder.
func (s *Statement) Verify(root forks.Hash) (Answer, error) {
	if s.Range != nil {
		more, err := VerifyRange(root, *s.Range, &s.Proof)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Pairs: s.Proof.Pairs, More: more}, nil
	}
	values, err := VerifyKeys(root, s.Keys, &s.Proof)
	if err != nil {
		return Answer{}, err
	}
	var out Answer
	for i, value := range values {
		out.Pairs = append(out.Pairs, Pair{s.Keys[i], value})
	}
	return out, nil
}

// rangeRequestSize is the length of CE 129's request: hash, start, end, u32.
const rangeRequestSize = forks.HashSize + 2*KeySize + 4

// Append appends the binary form: three messages of JAMNP-S, each with its length
// (u32, little-endian) in front, and the BLAKE2b-256 of them all. The first is the
// request: CE 129's (header hash, start, end, maximum size as u32), or the header
// hash and the keys; the others are CE 129's answer, nodes and pairs.
func (s *Statement) Append(b []byte) []byte {
	start := len(b)
	request := s.Block[:]
	if s.Range != nil {
		request = append(append(request[:len(request):len(request)], s.Range.Start[:]...), s.Range.End[:]...)
		request = binary.LittleEndian.AppendUint32(request, s.Range.MaxSize)
	}
	for i := range s.Keys {
		request = append(request[:len(request):len(request)], s.Keys[i][:]...)
	}
	for _, message := range [][]byte{request, s.Proof.AppendNodes(nil), s.Proof.AppendPairs(nil)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(message)))
		b = append(b, message...)
	}
	sum := blake2b.Sum256(b[start:])
	return append(b, sum[:]...)
}

// DecodeStatement reads the binary form. Values are slices of b. Error: ErrProof.
func DecodeStatement(b []byte) (*Statement, error) {
	n := len(b) - blake2b.Size256
	if n < 0 || blake2b.Sum256(b[:n]) != [blake2b.Size256]byte(b[n:]) {
		return nil, badProof("%d bytes that are no proof, or were changed", len(b))
	}
	b = b[:n]
	var messages [3][]byte
	for i := range messages {
		if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
			return nil, badProof("message %d is cut short", i+1)
		}
		size := binary.LittleEndian.Uint32(b)
		messages[i], b = b[4:4+size], b[4+size:]
	}
	if len(b) > 0 {
		return nil, badProof("%d bytes at its end", len(b))
	}
	s, err := decodeRequest(messages[0])
	if err != nil {
		return nil, err
	}
	p, err := DecodeProof(messages[1], messages[2], s.most())
	if err != nil {
		return nil, err
	}
	s.Proof = *p
	return s, nil
}

func decodeRequest(b []byte) (*Statement, error) {
	s := &Statement{}
	if len(b) < forks.HashSize {
		return nil, badProof("request of %d bytes", len(b))
	}
	copy(s.Block[:], b)
	rest := b[forks.HashSize:]
	if len(b) == rangeRequestSize {
		s.Range = &RangeRequest{
			Start: [KeySize]byte(rest), End: [KeySize]byte(rest[KeySize:]), MaxSize: binary.LittleEndian.Uint32(rest[2*KeySize:]),
		}
		return s, nil
	}
	if len(rest)%KeySize != 0 {
		return nil, badProof("request of %d bytes", len(b))
	}
	for ; len(rest) > 0; rest = rest[KeySize:] {
		s.Keys = append(s.Keys, [KeySize]byte(rest))
	}
	return s, nil
}

// most is the most keys that nodes may lead to.
func (s *Statement) most() int {
	if s.Range != nil {
		return 2
	}
	return len(s.Keys)
}

// statementJSON is the JSON form; byte strings are in hex.
type statementJSON struct {
	Block   forks.Hash  `json:"block"`
	Keys    []string    `json:"keys,omitempty"`
	From    *string     `json:"from,omitempty"`
	To      *string     `json:"to,omitempty"`
	MaxSize *uint32     `json:"max_size,omitempty"`
	Nodes   []string    `json:"nodes"`
	Pairs   [][2]string `json:"pairs"`
}

// MarshalJSON writes {"block", "keys" or "from", "to", "max_size", "nodes",
// "pairs":[[key,value]…]}, byte strings in hex.
func (s *Statement) MarshalJSON() ([]byte, error) {
	out := statementJSON{Block: s.Block, Nodes: []string{}, Pairs: [][2]string{}}
	for i := range s.Keys {
		out.Keys = append(out.Keys, hex.EncodeToString(s.Keys[i][:]))
	}
	if r := s.Range; r != nil {
		from, to := hex.EncodeToString(r.Start[:]), hex.EncodeToString(r.End[:])
		out.From, out.To, out.MaxSize = &from, &to, &r.MaxSize
	}
	for i := range s.Proof.Nodes {
		out.Nodes = append(out.Nodes, hex.EncodeToString(s.Proof.Nodes[i][:]))
	}
	for i := range s.Proof.Pairs {
		p := &s.Proof.Pairs[i]
		out.Pairs = append(out.Pairs, [2]string{hex.EncodeToString(p.Key[:]), hex.EncodeToString(p.Value)})
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes. Error: ErrProof.
func (s *Statement) UnmarshalJSON(text []byte) error {
	var in statementJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return badProof("%w", err)
	}
	*s = Statement{Block: in.Block}
	fixed := func(text string, to []byte) error {
		b, err := hex.DecodeString(text)
		if err != nil || copy(to, b) != len(to) || len(b) != len(to) {
			return badProof("%.80q is not %d bytes in hex", text, len(to))
		}
		return nil
	}
	if in.From != nil || in.To != nil || in.MaxSize != nil {
		if in.From == nil || in.To == nil || in.MaxSize == nil || len(in.Keys) > 0 {
			return badProof("a range has from, to and max_size, and no keys")
		}
		s.Range = &RangeRequest{MaxSize: *in.MaxSize}
		if err := fixed(*in.From, s.Range.Start[:]); err != nil {
			return err
		}
		if err := fixed(*in.To, s.Range.End[:]); err != nil {
			return err
		}
	}
	s.Keys = make([][KeySize]byte, len(in.Keys))
	for i, text := range in.Keys {
		if err := fixed(text, s.Keys[i][:]); err != nil {
			return err
		}
	}
	if len(in.Nodes) > s.most()*maxPath {
		return badProof("%d nodes", len(in.Nodes))
	}
	s.Proof.Nodes = make([]Node, len(in.Nodes))
	for i, text := range in.Nodes {
		if err := fixed(text, s.Proof.Nodes[i][:]); err != nil {
			return err
		}
	}
	s.Proof.Pairs = make([]Pair, len(in.Pairs))
	for i, p := range in.Pairs {
		if err := fixed(p[0], s.Proof.Pairs[i].Key[:]); err != nil {
			return err
		}
		value, err := hex.DecodeString(p[1])
		if err != nil {
			return badProof("value %.80q is not hex", p[1])
		}
		s.Proof.Pairs[i].Value = value
	}
	return nil
}
