package main

import (
	"encoding/json"
	"net/http"
)

// page stands for what an app's own handler answers: a few values, encoded for each request.
var page = map[string]any{
	"title": "Orders",
	"user":  map[string]any{"id": 42, "name": "Ann", "roles": []string{"buyer", "editor"}},
	"total": 3,
	"orders": []map[string]any{
		{"id": 7001, "state": "paid", "sum": 119.5, "items": 3},
		{"id": 7002, "state": "open", "sum": 20.25, "items": 1},
		{"id": 7003, "state": "sent", "sum": 64, "items": 2},
	},
}

func app(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// A client that went away gets nothing, and nobody else needs to know.
	_ = json.NewEncoder(w).Encode(page)
}
