package api

import (
	"net/http"

	"accessor/api/access"
)

func draftParam() param {
	return param{in: "path", name: "id", text: "id of the draft", required: true, schema: textSchema("^[0-9a-f]{32}$", 32)}
}

// draftRoutes are those of drafts.
func draftRoutes() []route {
	params := []param{draftParam()}
	none := []answer{{status: http.StatusNoContent, about: true}}
	described := []media{{name: typeJSON, of: Draft{}}}
	return append(draftStateRoutes(), []route{
		{
			method: http.MethodPost, path: "/v1/drafts", action: access.UseDrafts, serve: (*call).postDraft,
			doc: doc{
				id: "beginDraft", tag: "drafts", summary: "Begin a draft: an import in progress", body: []media{{name: typeJSON, of: draftBody{}}},
				answers: []answer{{status: 201, about: true, forms: described}},
			},
		},
		{
			method: http.MethodGet, path: "/v1/drafts", action: access.SeeDrafts, serve: (*call).getDrafts,
			doc: doc{
				id: "listDrafts", tag: "drafts", summary: "All open drafts",
				answers: []answer{{status: 200, forms: []media{{name: typeJSON, of: draftList{}}}}},
			},
		},
		{
			method: http.MethodGet, path: "/v1/drafts/{id}", action: access.UseDrafts, serve: (*call).getDraft,
			doc: doc{
				id: "getDraft", tag: "drafts", summary: "A draft", params: params,
				answers: []answer{{status: 200, about: true, forms: described}},
			},
		},
		{
			method: http.MethodDelete, path: "/v1/drafts/{id}", action: access.UseDrafts, also: access.DropAnyDraft, serve: (*call).deleteDraft,
			doc: doc{id: "dropDraft", tag: "drafts", summary: "Drop a draft", params: params, answers: none},
		},
		{
			method: http.MethodPost, path: "/v1/drafts/{id}/renew", action: access.UseDrafts, serve: (*call).renewDraft,
			doc: doc{
				id: "renewDraft", tag: "drafts", summary: "Let a draft's lease last longer", params: params,
				body: []media{{name: typeJSON, of: ttlBody{}}}, answers: []answer{{status: 200, about: true, forms: described}},
			},
		},
		{
			method: http.MethodPost, path: "/v1/drafts/{id}/commit", action: access.CommitDraft, serve: (*call).commitDraft,
			doc: doc{
				id: "commitDraft", tag: "drafts", summary: "Import a draft as a block", params: params, body: []media{{name: typeJSON, of: commitBody{}}},
				answers: []answer{
					{status: 201, about: true, forms: []media{{name: typeJSON, of: Imported{}}}},
					{status: 200, text: "It was held already", about: true, forms: []media{{name: typeJSON, of: Imported{}}}},
				},
			},
		},
	}...)
}

// draftStateRoutes are those of what drafts read and write.
func draftStateRoutes() []route {
	params, keyed := []param{draftParam()}, []param{draftParam(), keyParam()}
	none := []answer{{status: http.StatusNoContent, about: true}}
	return []route{
		{
			method: http.MethodGet, path: "/v1/drafts/{id}/state/{key}", action: access.UseDrafts, serve: (*call).getDraftValue,
			doc: doc{
				id: "getDraftValue", tag: "drafts", summary: "The value of a key as the draft has it; the headers name its parent", params: keyed,
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: Value{}}, {name: typeBinary}}}},
			},
		},
		{
			method: http.MethodPut, path: "/v1/drafts/{id}/state/{key}", action: access.UseDrafts, serve: (*call).putDraftValue,
			doc: doc{
				id: "putDraftValue", tag: "drafts", summary: "Set the value of a key in a draft", params: keyed,
				body: []media{{name: typeJSON, of: valueBody{}}, {name: typeBinary}}, answers: none,
			},
		},
		{
			method: http.MethodDelete, path: "/v1/drafts/{id}/state/{key}", action: access.UseDrafts, serve: (*call).deleteDraftValue,
			doc: doc{id: "deleteDraftValue", tag: "drafts", summary: "Remove a key in a draft", params: keyed, answers: none},
		},
		{
			method: http.MethodPost, path: "/v1/drafts/{id}/state", action: access.UseDrafts, serve: (*call).getDraftBatch,
			doc: doc{
				id: "getDraftValues", tag: "drafts", summary: "The values of many keys as the draft has them", params: params,
				body:    []media{{name: typeJSON, of: keysBody{}}, {name: typeBinary}},
				answers: []answer{{status: 200, about: true, forms: []media{{name: typeJSON, of: valuesBody{}}, {name: typeBinary}}}},
			},
		},
		{
			method: http.MethodPatch, path: "/v1/drafts/{id}/state", action: access.UseDrafts, serve: (*call).patchDraft,
			doc: doc{
				id: "writeDraft", tag: "drafts", summary: "Make many changes in a draft: all, or none", params: params,
				body: []media{{name: typeJSON, of: writesBody{}}, {name: typeBinary}}, answers: none,
			},
		},
	}
}
