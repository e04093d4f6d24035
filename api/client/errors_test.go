package client_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"accessor/api/client"
)

// TestKinds compares the kinds of errors that the client has with those of docs/API.md
// and those that the API makes.
func TestKinds(t *testing.T) {
	page, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	_, errorsOf, ok := strings.Cut(string(page), "\n## Errors\n")
	if !ok {
		t.Fatal("docs/API.md has no errors")
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\|(?: \\d+ \\|)? `([a-z-]+)` \\|").FindAllStringSubmatch(errorsOf, -1) {
		documented[m[1]] = true
	}
	own := []client.Kind{client.ErrConnection, client.ErrDeadline, client.ErrBadAnswer, client.ErrBadProof}
	ours := map[string]bool{}
	for name := range constants(t, "errors.go") {
		if !slices.Contains(own, client.Kind(name)) {
			ours[name] = true
		}
	}
	for name := range documented {
		if !ours[name] {
			t.Errorf("docs/API.md has %s, the client hasn't", name)
		}
	}
	for name := range ours {
		if !documented[name] {
			t.Errorf("the client has %s, docs/API.md hasn't", name)
		}
	}
	for name := range apiKinds(t) {
		if !ours[name] {
			t.Errorf("the API makes %s, the client hasn't it", name)
		}
	}
	if len(ours) < 50 {
		t.Errorf("only %d kinds: %v", len(ours), slices.Sorted(maps.Keys(ours)))
	}
}

// constants gives the values of a file's constants of type Kind.
func constants(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Kind" {
				out[text(t, spec.Values[0])] = true
			}
		}
		return true
	})
	return out
}

// apiKinds gives the keys of the API's table of kinds.
func apiKinds(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "kinds" {
			return true
		}
		for _, e := range spec.Values[0].(*ast.CompositeLit).Elts {
			out[text(t, e.(*ast.KeyValueExpr).Key)] = true
		}
		return false
	})
	if len(out) == 0 {
		t.Fatal("the API's kinds weren't found")
	}
	return out
}

func text(t *testing.T, e ast.Expr) string {
	t.Helper()
	s, err := strconv.Unquote(e.(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestErrorIs(t *testing.T) {
	cause := context.Canceled
	var err error = &client.Error{Kind: client.ErrPruned, Status: 410, Detail: "slot 3"}
	if !errors.Is(err, client.ErrPruned) || errors.Is(err, client.ErrConflict) || errors.Is(err, cause) {
		t.Errorf("%v is not what it should be", err)
	}
	if got := err.Error(); got != "pruned: slot 3" {
		t.Errorf("got %q", got)
	}
	for _, address := range []string{"", "accessor", "https://localhost:80", "ftp://x", "http://a/b", "unix://", "http://x y"} {
		if _, err := client.New(address); !errors.Is(err, client.ErrConnection) {
			t.Errorf("New(%q): %v", address, err)
		}
	}
	for _, address := range []string{"accessor.sock", "./accessor", "unix:///run/a b", "http://127.0.0.1:1", "http://[::1]:2/", "http://host"} {
		c, err := client.New(address)
		if err != nil {
			t.Errorf("New(%q): %v", address, err)
			continue
		}
		if err := c.Ready(context.Background()); !errors.Is(err, client.ErrConnection) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
