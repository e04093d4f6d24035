package api_test

import (
	"testing"

	"accessor/api"
	"accessor/state"
)

// A directory that can't be opened to its readers is no error of the server's; a pin
// for which none was asked goes without.
func TestPinWithoutAccess(t *testing.T) {
	nobody := -7
	s := newServer(t, api.Options{PinAccess: state.PinAccess{Group: &nobody}})
	p := s.do("POST /v1/pins", []byte(`{"block":"head","ttl_ms":60000,"directory":true}`)).problem(409, "no-directory")
	if p.Detail == "" || len(s.acc.Pins()) != 0 {
		t.Errorf("%+v, pins %v", p, s.acc.Pins())
	}
	var pin api.Pin
	s.do("POST /v1/pins", []byte(`{"block":"head","ttl_ms":60000}`)).is(201).into(&pin)
	if pin.Directory != nil {
		t.Errorf("directory %s", *pin.Directory)
	}
}
