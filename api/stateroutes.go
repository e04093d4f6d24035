package api

import (
	"net/http"

	"accessor/api/access"
)

// stateRoutes are those that read states.
func stateRoutes() []route {
	return append(changeRoutes(), []route{
		{
			method: http.MethodGet, path: "/v1/blocks/{id}/state/{key}", action: access.ReadState, serve: (*call).getValue,
			doc: doc{
				id: "getValue", tag: "state", summary: "The value of a key at a block",
				text:   "An absent key is a problem of kind absent-key; a block that isn't held, of kind unknown-block or pruned.",
				params: []param{blockParam(), keyParam()},
				answers: []answer{
					{status: 200, about: true, forms: []media{{name: typeJSON, of: Value{}}, {name: typeBinary}}},
					notModified,
				},
			},
		},
		{
			method: http.MethodPost, path: "/v1/blocks/{id}/state", action: access.ReadState, serve: (*call).getBatch,
			doc: doc{
				id: "getValues", tag: "state", summary: "The values of many keys at a block", params: []param{blockParam()},
				text:    "In binary form the body is the keys as frames, and the answer the values as frames in the same order.",
				body:    []media{{name: typeJSON, of: keysBody{}}, {name: typeBinary}},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: valuesBody{}}, {name: typeBinary}}}},
			},
		},
		{
			method: http.MethodGet, path: "/v1/blocks/{id}/state", action: access.ReadState, serve: (*call).getScan,
			doc: doc{
				id: "scanState", tag: "state", summary: "Keys and values at a block, in order", params: scanParams(),
				text: "A page as JSON, or with Accept: application/x-ndjson a line for each pair, and a last line that ends them.",
				answers: []answer{
					{status: 200, about: true, forms: []media{{name: typeJSON, of: scanPage{}}, {name: typeLines, of: scanLine{}}}},
					notModified,
				},
			},
		},
		{
			method: http.MethodGet, path: "/v1/blocks/{id}/proof", action: access.ReadState, serve: (*call).getProof,
			doc: doc{
				id: "prove", tag: "state", summary: "A Merkle proof of keys, or of a range of keys, against the block's root",
				text: proofForms,
				params: []param{
					blockParam(),
					{in: "query", name: "key", text: "key in hex or a state item's name; may be repeated", schema: textSchema("", 512), many: true},
					queryParam("from", "first key of a range, or what it begins with", textSchema("", 512)),
					queryParam("to", "last key of a range, or what it begins with", textSchema("", 512)),
					queryParam("max", "most bytes of a range's proof, unless it has one pair; default 1 MiB", intSchema(1, 1<<32-1)),
				},
				answers: []answer{
					{status: 200, about: true, forms: []media{{name: typeJSON, of: proofBody{}}, {name: typeBinary}}},
					notModified,
				},
			},
		},
		{
			method: http.MethodPost, path: "/v1/blocks/{id}/proof", action: access.ReadState, serve: (*call).postProof,
			doc: doc{
				id: "proveMany", tag: "state", summary: "A Merkle proof of many keys against the block's root",
				text:    "The request is that of a batch, in either form. " + proofForms,
				params:  []param{blockParam()},
				body:    []media{{name: typeJSON, of: keysBody{}}, {name: typeBinary}},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: proofBody{}}, {name: typeBinary}}}},
			},
		},
	}...)
}

const proofForms = "docs/PROOFS.md describes both forms. Its leaves must be of items that the client may read."

// changeRoutes are those that say what changed.
func changeRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: "/v1/diff", action: access.ReadState, serve: (*call).getDiff,
			doc: doc{
				id: "diff", tag: "state", summary: "The keys that differ between the states at two blocks",
				params: []param{
					{in: "query", name: "from", text: "block", schema: textSchema("", 66), required: true},
					{in: "query", name: "to", text: "block, which the headers name", schema: textSchema("", 66), required: true},
				},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: diffBody{}}}}, notModified},
			},
		},
		{
			method: http.MethodGet, path: "/v1/blocks/{id}/changes", action: access.ReadState, serve: (*call).getChanges,
			doc: doc{
				id: "getChanges", tag: "state", summary: "What a block wrote", params: []param{blockParam()},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: changesBody{}}}}, notModified},
			},
		},
		{
			method: http.MethodGet, path: "/v1/history/{key}", action: access.ReadState, serve: (*call).getHistory,
			doc: doc{
				id: "getHistory", tag: "state", summary: "The blocks on the way to a block that wrote a key, newest first",
				params: []param{
					keyParam(),
					queryParam("at", "block; default head", textSchema("", 66)),
					queryParam("limit", "most versions; default 100", intSchema(1, 1<<31)),
				},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: historyBody{}}}}, notModified},
			},
		},
	}
}

// notModified is what a request with If-None-Match may be answered by.
var notModified = answer{status: http.StatusNotModified, text: "The client has that answer already"}
