package trace

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

const (
	someHash  = `"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"`
	otherHash = `"ff02030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"`
)

func TestParseBlock(t *testing.T) {
	least := `{"hash":` + someHash + `,"parent":` + otherHash + `,"slot":7,"puts":[["0a","0b0c"]],"dels":["0d"]}`
	b, err := ParseBlock([]byte(least))
	if err != nil {
		t.Fatal(err)
	}
	if b.Slot != 7 || b.PriorRoot != nil || b.PostRoot != nil || b.Header != nil ||
		len(b.Puts) != 1 || !bytes.Equal(b.Puts[0].Value, []byte{11, 12}) || len(b.Dels) != 1 || b.Hash[0] != 1 || b.Parent[0] != 255 {
		t.Errorf("%+v", b)
	}
	with := func(more string) string { return strings.TrimSuffix(least, "}") + "," + more + "}" }
	for _, tt := range []struct {
		text, want string // want is part of the error; empty for none
	}{
		{with(`"type":"block","seq":3,"src":"x","keys":1,"bytes":2,"anything":{"a":[1,{"b":null}]}`), ""},
		{with(`"prior_root":null,"post_root":` + someHash + `,"header":null`), ""},
		{with(`"type":"anchor"`), "anchor"},
		{with(`"slot":8`), "twice"},
		{with(`"slo\u0074":8`), "twice"},
		{with(`"x":{"y":1,"y":1}`), "twice"},
		{with(`"x":"` + "\xff" + `"`), "UTF-8"},
		{strings.Replace(least, `"dels"`, `"delz"`, 1), "no dels"},
		{strings.Replace(least, `["0d"]`, `null`, 1), "no dels"},
		{strings.Replace(least, `:7,`, `:4294967296,`, 1), "above"},
		{strings.Replace(least, `"0a"`, `"0"`, 1), "hex"},
		{least + "x", "after"},
		{"[]", "wanted"},
		{"", "ends"},
	} {
		_, err := ParseBlock([]byte(tt.text))
		if (err == nil) != (tt.want == "") || (err != nil && (!strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrFormat))) {
			t.Errorf("%s: %v, want %q", tt.text, err, tt.want)
		}
	}
}

func TestParseWrites(t *testing.T) {
	puts, dels, err := ParseWrites([]byte(`{"dels":["0d"],"puts":[["0a",""]]}`))
	if err != nil || len(puts) != 1 || len(dels) != 1 || puts[0].Value == nil {
		t.Errorf("%v, %v, %v", puts, dels, err)
	}
	for _, bad := range []string{`{"put":[]}`, `{"puts":[],"puts":[]}`, `{"puts":null}`, `{"puts":[["0a"]]}`, `{"puts":[]} {}`} {
		if _, _, err := ParseWrites([]byte(bad)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzParseBlock(f *testing.F) {
	f.Add([]byte(`{"hash":` + someHash + `,"parent":` + otherHash + `,"slot":7,"puts":[["0a","0b0c"]],"dels":["0d"],"x":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if b, err := ParseBlock(text); (b == nil) == (err == nil) {
			t.Fatalf("%v, %v", b, err)
		}
		if puts, dels, err := ParseWrites(text); err != nil && (puts != nil || dels != nil) {
			t.Fatal("an error and writes")
		}
	})
}
