package api

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// doc is what the OpenAPI document says of a route.
type doc struct {
	id, tag, summary string
	text             string // CommonMark; may be empty
	params           []param
	body             []media
	bodyOptional     bool
	answers          []answer // beside problems, which each route has
}

// param is a parameter of a path or a query, or a header.
type param struct {
	in, name, text string
	schema         *huma.Schema
	many           bool // it may be given several times
	required       bool
}

// media is a form in which a body or an answer comes.
type media struct {
	name   string
	of     any          // a value of the Go type that it is the JSON of
	schema *huma.Schema // where there is no such type
}

// answer is one status with its forms.
type answer struct {
	status int
	text   string
	about  bool // it names block, slot and root in headers
	forms  []media
}

func (d *doc) param(in, name string) *param {
	for i := range d.params {
		if p := &d.params[i]; p.in == in && p.name == name {
			return p
		}
	}
	return nil
}

func (d *doc) queryNames() string {
	var names []string
	for _, p := range d.params {
		if p.in == "query" {
			names = append(names, p.name)
		}
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// Schemas of what isn't a Go type.
func textSchema(pattern string, most int) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: pattern, MaxLength: &most}
}

func hexSchema(most int) *huma.Schema { return textSchema("^([0-9a-fA-F]{2})*$", 2*most) }

func intSchema(least, most int) *huma.Schema {
	lo, hi := float64(least), float64(most)
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &lo, Maximum: &hi}
}

// boolSchema is a parameter that is true or false; its name alone means true.
func boolSchema() *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{"true", "false", "1", "0", ""}}
}

func binarySchema() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Format: "binary"} }

func nullable(s *huma.Schema) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{s, {Type: "null"}}}
}

func listOf(s *huma.Schema) *huma.Schema { return &huma.Schema{Type: huma.TypeArray, Items: s} }

// pairSchema is [key, value].
func pairSchema() *huma.Schema {
	two := 2
	return &huma.Schema{Type: huma.TypeArray, Items: hexSchema(1 << 28), MinItems: &two, MaxItems: &two}
}

// Parameters that several routes have.
func blockParam() param {
	return param{
		in: "path", name: "id", required: true, schema: textSchema("", 66),
		text: "block: head, finalized, anchor, genesis, a slot, or a hash or 8 or more of its first hex digits",
	}
}

func keyParam() param {
	return param{
		in: "path", name: "key", required: true, schema: textSchema("", 2*255+2),
		text: "key in hex, or the name of a JAM state item such as entropy or account:7",
	}
}

func queryParam(name, text string, schema *huma.Schema) param {
	return param{in: "query", name: name, text: text, schema: schema}
}

// document is the OpenAPI document while it is made.
type document struct {
	huma.OpenAPI
	problem *huma.Schema
}

func newDocument(version string) *document {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	d := &document{OpenAPI: huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "accessor", Version: cmp.Or(version, "0"),
			Description: "A blockchain's state at every block of every fork for a day. docs/API.md says more.",
		},
		Components: &huma.Components{Schemas: registry},
	}}
	d.problem = registry.Schema(reflect.TypeFor[Problem](), true, "")
	return d
}

func (d *document) schema(m media) *huma.Schema {
	switch {
	case m.schema != nil:
		return m.schema
	case m.of != nil:
		return d.Components.Schemas.Schema(reflect.TypeOf(m.of), true, "")
	}
	return binarySchema()
}

func (d *document) content(forms []media) map[string]*huma.MediaType {
	if len(forms) == 0 {
		return nil
	}
	out := make(map[string]*huma.MediaType, len(forms))
	for _, m := range forms {
		out[m.name] = &huma.MediaType{Schema: d.schema(m)}
	}
	return out
}

// add describes a route.
func (d *document) add(rt *route) {
	op := &huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.doc.id, Tags: []string{rt.doc.tag},
		Summary: rt.doc.summary, Description: rt.doc.text, Responses: make(map[string]*huma.Response),
	}
	if rt.action != 0 {
		op.Extensions = map[string]any{"x-action": rt.action.String(), "x-roles": rt.roles().String()}
	}
	for _, p := range rt.doc.params {
		schema := p.schema
		if p.many {
			schema = listOf(schema)
		}
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: p.name, In: p.in, Description: p.text, Required: p.required, Schema: schema,
		})
	}
	if len(rt.doc.body) > 0 {
		op.RequestBody = &huma.RequestBody{Required: !rt.doc.bodyOptional, Content: d.content(rt.doc.body)}
	}
	for _, a := range rt.doc.answers {
		resp := &huma.Response{Description: cmp.Or(a.text, http.StatusText(a.status)), Content: d.content(a.forms)}
		if a.about {
			resp.Headers = map[string]*huma.Header{
				"Accessor-Block": {Description: "hash of the block", Schema: textSchema("^[0-9a-f]{64}$", 64)},
				"Accessor-Slot":  {Description: "its slot", Schema: intSchema(0, 1<<32-1)},
				"Accessor-Root":  {Description: "root of its state", Schema: textSchema("^[0-9a-f]{64}$", 64)},
			}
		}
		op.Responses[strconv.Itoa(a.status)] = resp
	}
	op.Responses["default"] = &huma.Response{
		Description: "A problem (RFC 9457); kind says which", Content: map[string]*huma.MediaType{typeProblem: {Schema: d.problem}},
	}
	d.AddOperation(op)
}

func (d *document) marshal() ([]byte, error) { return json.Marshal(&d.OpenAPI) }
