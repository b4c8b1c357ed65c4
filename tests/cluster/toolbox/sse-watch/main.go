// sse-watch: the Go module `tmaxmax/go-sse`, with the JWT as Bearer; the module itself comes back with its last id.
// Prints what it sees. Usage: JWT=… sse-watch BASE 1|2, where 2 is HTTP/2 without TLS.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/tmaxmax/go-sse"
)

// Bytes of the longest event.
const longest = 1 << 20

type seen struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data string `json:"data"`
}

func main() {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(os.Args[2] == "1")
	protocols.SetUnencryptedHTTP2(os.Args[2] == "2")
	client := sse.Client{
		HTTPClient: &http.Client{Transport: &http.Transport{Protocols: protocols}},
		Backoff:    sse.Backoff{InitialInterval: 100 * time.Millisecond, MaxInterval: time.Second},
		OnRetry:    func(err error, _ time.Duration) { log.Println(err) },
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, os.Args[1]+"/stream", nil)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("JWT"))
	connection := client.NewConnection(request)
	connection.Buffer(nil, longest)
	out := json.NewEncoder(os.Stdout)
	connection.SubscribeToAll(func(event sse.Event) {
		kind := event.Type
		if kind == "" {
			kind = "message"
		}
		if err := out.Encode(seen{kind, event.LastEventID, event.Data}); err != nil {
			log.Fatal(err)
		}
	})
	// An answer like 503 ends it; it can be asked again.
	for {
		log.Println(connection.Connect())
		time.Sleep(100 * time.Millisecond)
	}
}
