// Publishes to every tab of a user: raw, with headers, as a CloudEvent. Usage: go run . nats://127.0.0.1:4222
package main

import "github.com/nats-io/nats.go"
import "os"

func main() {
	connection := must(nats.Connect(os.Args[1]))
	defer connection.Close()
	log, subject := must(connection.JetStream()), "sse.acme.user."+token("alice@example.com")
	send := func(header nats.Header, data string) { // returns when the log has the event
		must(log.PublishMsg(&nats.Msg{Subject: subject, Header: header, Data: []byte(data)}))
	}
	send(nil, `{"orderId":42}`)
	send(nats.Header{"Sse-Event": {"order.shipped"}, "Nats-Msg-Id": {"acme:order-42-shipped"}}, `{"orderId":42}`)
	cloud := `{"specversion":"1.0","id":"42","source":"/shop","type":"order.paid","data":{"orderId":42}}`
	send(nats.Header{"Content-Type": {"application/cloudevents+json"}}, cloud)
}
