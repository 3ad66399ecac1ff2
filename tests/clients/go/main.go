// Command clients runs one case with one of Go's Kafka clients:
//
//	clients CLIENT CASE BOOTSTRAP PREFIX
//
// Exit code 0: passed; 3: not applicable; else failed. The last line on stdout says why.
package main

import (
	"errors"
	"fmt"
	"os"
)

// A client's cases, by name; each is given the bootstrap address and a topic of its own.
type cases map[string]func(bootstrap, topic string)

// notApplicable is thrown by a case that the client cannot do by nature.
type notApplicable string

func main() {
	if len(os.Args) != 5 {
		fmt.Println("usage: clients CLIENT CASE BOOTSTRAP PREFIX")
		os.Exit(2)
	}
	client, name, bootstrap, prefix := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	run := map[string]cases{"franz-go": franz, "sarama": saramaCases, "kafka-go": segmentio}[client][name]
	if run == nil {
		fmt.Printf("no case %s of client %s\n", name, client)
		os.Exit(2)
	}
	defer func() {
		thrown := recover()
		var why notApplicable
		if err, is := thrown.(error); is && errors.As(err, &why) {
			fmt.Println(string(why))
			os.Exit(3)
		}
		if thrown != nil {
			fmt.Println(thrown)
			os.Exit(1)
		}
	}()
	run(bootstrap, prefix+"-"+name)
}

func (why notApplicable) Error() string { return string(why) }
