package api_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"accessor/api"
	"accessor/api/access"
	"accessor/state"
)

func TestDrafts(t *testing.T) {
	s := newServer(t, api.Options{})
	s.roles = access.Of(access.Producing)
	begin := func() string {
		t.Helper()
		var d api.Draft
		a := s.do("POST /v1/drafts", []byte(fmt.Sprintf(`{"parent":"%s","slot":1,"owner":"p","ttl_ms":20000}`, hash("alfred")))).is(201).into(&d)
		s.about(a, "alfred")
		if d.Owner != "p" || d.Slot != 1 || d.ExpiresMS == nil || *d.ExpiresMS > 20_000 || a.Header().Get("Location") != "/v1/drafts/"+d.ID {
			t.Errorf("%s", a.Body)
		}
		return "/v1/drafts/" + d.ID
	}
	at := begin()
	k, l := hexOf(key("k")), hexOf(key("l"))
	s.do("PUT "+at+"/state/"+k, []byte("raw"), "Content-Type: application/octet-stream").is(204)
	s.do("PUT "+at+"/state/"+l, []byte(`{"value":"0102"}`)).is(204)
	s.do("PUT "+at+"/state/"+l, []byte(`{"value":"0"}`)).problem(400, "bad-body")
	var v api.Value
	s.about(s.do("GET "+at+"/state/"+k, nil).is(200).into(&v), "alfred")
	if v.Value != hexOf("raw") {
		t.Errorf("%+v", v)
	}
	if a := s.do("GET "+at+"/state/"+l, nil, "Accept: application/octet-stream").is(200); !bytes.Equal(a.Body.Bytes(), []byte{1, 2}) {
		t.Errorf("%x", a.Body)
	}
	s.do("DELETE "+at+"/state/"+l, nil).is(204)
	s.do("GET "+at+"/state/"+l, nil).problem(404, "absent-key")
	s.do("GET "+at+"/state/statistics", nil).problem(403, "forbidden-item")
	s.do("PATCH "+at+"/state", []byte(`{"puts":[["`+l+`","0a"]],"dels":["`+k+`"]}`)).is(204)
	s.do("PATCH "+at+"/state", api.AppendWrites(nil, []state.Pair{{Key: []byte(key("m")), Value: []byte("m")}}, nil), "Content-Type: application/octet-stream").is(204)
	s.do("PATCH "+at+"/state", []byte(`{"puts":[["`+l+`","0b"],["ff",""]]}`)).problem(422, "invalid-block")
	s.do("PATCH "+at+"/state", []byte(`{"put":[]}`)).problem(400, "bad-body")
	var values struct{ Values []*string }
	s.do("POST "+at+"/state", []byte(`{"keys":["`+k+`","`+l+`","`+hexOf(key("m"))+`"]}`)).is(200).into(&values)
	if values.Values[0] != nil || *values.Values[1] != "0a" || *values.Values[2] != hexOf("m") {
		t.Errorf("%+v", values)
	}
	s.do("POST "+at+"/renew", []byte(`{"ttl_ms":60000}`)).is(200)
	s.do("POST "+at+"/renew", []byte(`{"ttl_ms":60001}`)).problem(400, "bad-request")
	s.do("POST /v1/drafts", []byte(fmt.Sprintf(`{"parent":"%s","slot":1,"owner":"q"}`, hash("alfred")))).problem(423, "reserved")
	s.do("POST /v1/drafts", []byte(fmt.Sprintf(`{"parent":"%s","slot":1}`, hash("nobody")))).problem(404, "unknown-block")
	s.do("POST /v1/drafts", []byte(`{"parent":"nobody","slot":1}`)).problem(400, "bad-block-id")
	s.do("POST /v1/drafts", []byte(`{"parent":"anchor","slot":0}`)).problem(422, "slot-order")
	s.do("POST /v1/drafts", []byte(fmt.Sprintf(`{"parent":"%s","slot":0}`, hash("alfred")))).problem(422, "slot-order")

	// Another client: neither reads nor commits it; an operator drops it.
	s.uid = 7
	s.do("GET "+at, nil).problem(403, "forbidden")
	s.do("POST "+at+"/commit", []byte(`{"hash":"`+hash("benny").String()+`"}`)).problem(403, "forbidden")
	s.do("DELETE "+at, nil).problem(403, "forbidden")
	s.do("GET /v1/drafts", nil).problem(403, "forbidden")
	s.uid = 0
	other := begin()
	s.uid, s.roles = 7, access.Of(access.Operator)
	var list struct{ Drafts []api.Draft }
	s.do("GET /v1/drafts", nil).is(200).into(&list)
	if len(list.Drafts) != 2 {
		t.Errorf("%+v", list)
	}
	s.do("DELETE "+other, nil).is(204)
	s.do("GET "+other, nil).problem(403, "forbidden")
	s.uid, s.roles = 0, access.Of(access.Producing)
	s.do("GET "+other, nil).problem(410, "draft-over")

	s.do("POST "+at+"/commit", []byte(`{"hash":"`+hash("benny").String()+`","post_root":"`+hash("x").String()+`"}`)).problem(422, "wrong-root")
	var got api.Imported
	s.do("POST "+at+"/commit", []byte(`{"hash":"`+hash("benny").String()+`"}`)).is(201).into(&got)
	if got.Hash != hash("benny") {
		t.Errorf("%+v", got)
	}
	if p := s.do("GET "+at, nil).problem(410, "draft-over"); !strings.Contains(p.Detail, hash("benny").String()) {
		t.Errorf("%+v", p)
	}
	// Whoever did not get the answer asks again.
	again := `{"hash":"` + hash("benny").String() + `","post_root":"` + got.Root.String() + `"}`
	var held api.Imported
	s.do("POST "+at+"/commit", []byte(again)).is(200).into(&held)
	if held.Hash != got.Hash || held.Root != got.Root {
		t.Errorf("%+v", held)
	}
	s.do("POST "+at+"/commit", []byte(`{"hash":"`+hash("claire").String()+`"}`)).problem(410, "draft-over")
	s.do("POST "+at+"/commit", []byte(`{"hash":"`+hash("benny").String()+`","post_root":"`+hash("x").String()+`"}`)).problem(410, "draft-over")
	s.do("POST "+at+"/commit", []byte(`{}`)).problem(400, "bad-body")
	s.uid = 7
	s.do("GET "+at, nil).problem(404, "unknown-draft")
	s.do("POST "+at+"/commit", []byte(again)).problem(404, "unknown-draft")
	s.uid = 0
	s.do("GET /v1/drafts/"+strings.Repeat("0", 32), nil).problem(404, "unknown-draft")

	gone := begin()
	s.do("DELETE "+gone, nil).is(204)
	s.do("DELETE "+gone, nil).problem(410, "draft-over")
	brief := "/v1/drafts/" + func() string {
		var d api.Draft
		s.do("POST /v1/drafts", []byte(fmt.Sprintf(`{"parent":"%s","slot":1,"ttl_ms":1}`, hash("alfred")))).is(201).into(&d)
		return d.ID
	}()
	for deadline := time.Now().Add(10 * time.Second); s.do("GET "+brief, nil).Code == 200; {
		if time.Now().After(deadline) {
			t.Fatal("the lease doesn't expire")
		}
	}
	s.do("GET "+brief, nil).problem(410, "draft-over")
	if n := len(s.acc.Drafts()); n != 0 {
		t.Errorf("%d drafts are left", n)
	}
}

func TestPins(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("benny", "alfred")
	s.roles = access.Of(access.Auditing)
	var p api.Pin
	a := s.do("POST /v1/pins", []byte(`{"block":"head","owner":"audit","ttl_ms":60000}`)).is(201).into(&p)
	s.about(a, "benny")
	if p.Block != hash("benny") || p.Owner != "audit" || p.ExpiresMS > 60_000 || p.ExpiresMS < 1000 {
		t.Errorf("%s", a.Body)
	}
	at := "/v1/pins/" + p.ID
	s.do("POST "+at+"/renew", []byte(`{"ttl_ms":120000}`)).is(200).into(&p)
	if p.ExpiresMS < 100_000 {
		t.Errorf("%+v", p)
	}
	for body, kind := range map[string]string{
		`{"block":"head"}`: "bad-body", `{"block":"head","ttl_ms":0}`: "bad-request", `{"block":"head","ttl_ms":-1}`: "bad-request",
		`{"block":"head","ttl_ms":90000000}`: "bad-request", `{"block":"zz","ttl_ms":1}`: "bad-block-id", `{"block":7,"ttl_ms":1}`: "bad-body",
	} {
		s.do("POST /v1/pins", []byte(body)).problem(400, kind)
	}
	var list struct{ Pins []api.Pin }
	count := func(want int) {
		t.Helper()
		if s.do("GET /v1/pins", nil).is(200).into(&list); len(list.Pins) != want {
			t.Errorf("%d pins, want %d", len(list.Pins), want)
		}
	}
	count(1)
	s.uid = 7
	count(0)
	s.do("DELETE "+at, nil).problem(403, "forbidden")
	s.do("POST "+at+"/renew", []byte(`{"ttl_ms":1}`)).problem(403, "forbidden")
	s.roles = access.Of(access.Operator)
	count(1)
	s.do("DELETE "+at, nil).is(204)
	s.do("DELETE "+at, nil).problem(404, "unknown-pin")
	count(0)

	// A directory holds every item, so it is for who may read them all.
	s.roles = access.Of(access.Auditing)
	if p.Directory != nil {
		t.Errorf("auditing got %s", *p.Directory)
	}
	ask := `{"block":"head","ttl_ms":60000,"directory":true}`
	if p := s.do("POST /v1/pins", []byte(ask)).problem(403, "forbidden"); p.Action != "pin-directory" {
		t.Errorf("%+v", p)
	}
	s.roles = access.Of(access.Importing)
	s.do("POST /v1/pins", []byte(`{"block":"head","ttl_ms":60000,"directory":false}`)).is(201).into(&p)
	if p.Directory != nil {
		t.Errorf("directory %s, though none was wanted", *p.Directory)
	}
	s.do("POST /v1/pins", []byte(ask)).is(201).into(&p)
	if p.Directory == nil {
		t.Fatal("no directory")
	}
	if _, err := os.Stat(*p.Directory); err != nil {
		t.Error(err)
	}
	s.roles = access.Of(access.Operator)
	s.do("GET /v1/pins", nil).is(200).into(&list)
	for _, one := range list.Pins {
		if one.Directory != nil {
			t.Errorf("an operator, who reads no state, got %s", *one.Directory)
		}
	}
}

// TestShares: one client has a quarter of the drafts and pins, and leaves the rest to
// others.
func TestShares(t *testing.T) {
	s := newServer(t, api.Options{})
	for _, tt := range []struct {
		head, body, kind string
		most             int
	}{
		{"POST /v1/drafts", fmt.Sprintf(`{"parent":"%s","slot":1,"owner":"all"}`, hash("alfred")), "too-many-drafts", 4},
		{"POST /v1/pins", `{"block":"head","ttl_ms":60000,"directory":false}`, "too-many-pins", 16},
	} {
		s.uid = 1
		var last struct{ ID string }
		for range tt.most {
			s.do(tt.head, []byte(tt.body)).is(201).into(&last)
		}
		s.do(tt.head, []byte(tt.body)).problem(429, tt.kind)
		s.uid = 2
		s.do(tt.head, []byte(tt.body)).is(201)
		s.uid = 1
		s.do("DELETE "+strings.TrimPrefix(tt.head, "POST ")+"/"+last.ID, nil).is(204)
		s.do(tt.head, []byte(tt.body)).is(201)
		s.do(tt.head, []byte(tt.body)).problem(429, tt.kind)
	}
}

// TestOwners: who waits for a slot is told which client has it, and reservations are
// listed.
func TestOwners(t *testing.T) {
	s := newServer(t, api.Options{})
	s.uid = 5
	body := fmt.Sprintf(`{"parent":"%s","slot":1,"owner":"p"}`, hash("alfred"))
	s.do("POST /v1/drafts", []byte(body)).is(201)
	var locks struct{ Reservations []api.Reservation }
	s.do("GET /v1/locks", nil).is(200).into(&locks)
	if len(locks.Reservations) != 1 || locks.Reservations[0].Owner != "p" || locks.Reservations[0].Slot != 1 || locks.Reservations[0].ExpiresMS == nil {
		t.Errorf("%+v", locks)
	}

	lease, err := s.acc.Locks().TryLock(1, hash("boris"), "another")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan *answer)
	b := s.block("benny", "alfred")
	go func() { done <- s.do("POST /v1/blocks", jsonOf(t, bodyOf(b))) }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if list := s.acc.LockList(); len(list) == 1 && list[0].Waiters == 1 || time.Now().After(deadline) {
			break
		}
	}
	p := s.stream("POST /v1/blocks?wait=0", bytes.NewReader(jsonOf(t, bodyOf(b)))).problem(423, "locked")
	if p.Holder == nil || p.Holder.Owner != "uid 5 " {
		t.Errorf("%+v", p.Holder)
	}
	lease.Release()
	(<-done).is(201)
}

// TestProblemsName: a problem names its block, and an unknown one the nearest.
func TestProblemsName(t *testing.T) {
	s := newServer(t, api.Options{})
	s.accept("benny", "alfred")
	p := s.do("GET /v1/blocks/head/state/"+hexOf(key("nowhere")), nil).problem(404, "absent-key")
	if p.Block == nil || *p.Block != hash("benny") || p.Slot == nil || *p.Slot != 1 || p.Root == nil || *p.Root != s.states["benny"].root(t) {
		t.Errorf("%+v", p)
	}
	p = s.do("GET /v1/blocks/"+hash("nobody").String(), nil).problem(404, "unknown-block")
	if p.Nearest == nil || p.Nearest.Block != hash("benny") {
		t.Errorf("%+v", p)
	}
	var pin api.Pin
	s.do("POST /v1/pins", []byte(`{"block":"head","ttl_ms":60000,"directory":false}`)).is(201).into(&pin)
	s.about(s.do("POST /v1/pins/"+pin.ID+"/renew", []byte(`{"ttl_ms":60000}`)).is(200), "benny")
}
