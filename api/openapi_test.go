package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"accessor/api"
)

// documented compares requests and answers with the server's OpenAPI document.
type documented struct {
	validator.Validator
}

func newDocumented(t testing.TB, h http.Handler) *documented {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/openapi.json", nil))
	doc, err := libopenapi.NewDocument(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("the document: %v", e)
		}
	}
	return &documented{v}
}

// check wants what was asked and answered to be as the document says; of a request
// that was refused, the answer alone.
func (d *documented) check(t testing.TB, r *http.Request, body []byte, w *httptest.ResponseRecorder) {
	t.Helper()
	switch w.Code {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestURITooLong:
		if text := w.Body.String(); strings.Contains(text, `"not-found"`) || strings.Contains(text, `"method-not-allowed"`) ||
			strings.Contains(text, `"target-too-long"`) {
			return // no route's
		}
	}
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	if w.Code < 400 {
		if ok, errs := d.ValidateHttpRequest(again); !ok {
			for _, e := range errs {
				t.Errorf("%s %s: the request: %v", r.Method, r.URL, e)
			}
		}
	}
	if w.Header().Get("Content-Type") != "application/x-ndjson" {
		d.answer(t, again, w.Result(), w.Body.Bytes())
		return
	}
	for line := range bytes.Lines(w.Body.Bytes()) { // each is what the document describes
		d.answer(t, again, w.Result(), line)
	}
}

func (d *documented) answer(t testing.TB, r *http.Request, resp *http.Response, body []byte) {
	t.Helper()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if ok, errs := d.ValidateHttpResponse(r, resp); !ok {
		for _, e := range errs {
			t.Errorf("%s %s: the answer: %.300s: %.500s", r.Method, r.URL, e.Error(), body)
			for _, s := range e.SchemaValidationErrors {
				t.Errorf("  %s at %s", s.Reason, s.FieldPath)
			}
		}
	}
}

// TestDocument: every operation has a name of its own, a summary and who may call it.
func TestDocument(t *testing.T) {
	s := newServer(t, api.Options{Config: func() any { return map[string]any{"a": 1} }})
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Summary     string
			Roles       string                     `json:"x-roles"`
			Responses   map[string]json.RawMessage `json:"responses"`
		}
	}
	s.do("GET /v1/openapi.json", nil).is(200).into(&doc)
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	seen := make(map[string]bool)
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if op.OperationID == "" || seen[op.OperationID] || op.Summary == "" || len(op.Responses) < 2 || op.Responses["default"] == nil {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			seen[op.OperationID] = true
			switch path {
			case "/livez", "/readyz", "/v1/openapi.json":
			default:
				if op.Roles == "" || op.Roles == "none" {
					t.Errorf("%s %s is for nobody", method, path)
				}
			}
		}
	}
	if len(seen) < 30 {
		t.Errorf("%d operations", len(seen))
	}
	s.do("GET /v1/config", nil).is(200)
}
