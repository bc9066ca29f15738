// go-nsq; see ../README.md.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nsqio/go-nsq"
)

var (
	lock      sync.Mutex
	published = map[string]bool{}
	consumed  = map[string]bool{}
)

func note(fact string, facts map[string]bool, body string) {
	lock.Lock()
	defer lock.Unlock()
	facts[body] = true
	fmt.Println(fact, body)
}

func complete(count int) bool {
	lock.Lock()
	defer lock.Unlock()
	for body := range published {
		if !consumed[body] {
			return false
		}
	}
	return len(published) == count
}

func main() {
	addresses, lookups := strings.Split(os.Args[1], ","), strings.Split(os.Args[2], ",")
	topic := os.Args[3]
	count, err := strconv.Atoi(os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	quiet := log.New(os.Stderr, "", log.LstdFlags)

	config := nsq.NewConfig()
	config.MaxInFlight = 20
	config.LookupdPollInterval = time.Second
	config.LookupdPollJitter = 0.1
	consumer, err := nsq.NewConsumer(topic, "clients", config)
	if err != nil {
		log.Fatal(err)
	}
	consumer.SetLogger(quiet, nsq.LogLevelWarning)
	consumer.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error {
		note("consumed", consumed, string(m.Body))
		return nil
	}))
	if err := consumer.ConnectToNSQLookupds(lookups); err != nil {
		log.Fatal(err)
	}

	var producers []*nsq.Producer
	for _, address := range addresses {
		producer, err := nsq.NewProducer(address, nsq.NewConfig())
		if err != nil {
			log.Fatal(err)
		}
		producer.SetLogger(quiet, nsq.LogLevelError)
		producers = append(producers, producer)
	}
	for i := 0; i < count; i++ {
		body := fmt.Sprintf("m%d", i)
		for attempt := 0; ; attempt++ {
			if producers[(i+attempt)%len(producers)].Publish(topic, []byte(body)) == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		note("published", published, body)
		time.Sleep(5 * time.Millisecond)
	}
	for !complete(count) {
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Println("done")
}
