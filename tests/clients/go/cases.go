package main

import (
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

type header struct {
	key   string
	value []byte
}

// A record as the case fields sends it; nil is null, an empty slice is empty.
type record struct {
	key, value []byte
	headers    []header
}

var fieldRecords = []record{
	{[]byte("key"), []byte("value"), []header{
		{"a", []byte("1")}, {"b", everyByte()}, {"a", []byte("2")}, {"empty", []byte{}}}},
	{nil, []byte("null key"), nil},
	{[]byte("null value"), nil, nil},
	{[]byte("empty value"), []byte{}, nil},
	{[]byte{}, []byte("empty key"), nil},
}

func everyByte() []byte {
	bytes := make([]byte, 256)
	for i := range bytes {
		bytes[i] = byte(i)
	}
	return bytes
}

// largeValue cannot be packed, so 900 KB go over the wire.
func largeValue() []byte {
	value := make([]byte, 900_000)
	rand.New(rand.NewSource(1)).Read(value)
	return value
}

// packable is a value that shrinks, so that no producer sends it as it is.
func packable(codec string, number int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("%s %d ", codec, number), 50))
}

func say(words ...any) { fmt.Fprintln(os.Stderr, words...) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](value T, err error) T {
	must(err)
	return value
}

func equal(found, wanted any, what string) {
	if !reflect.DeepEqual(found, wanted) {
		say("found", fmt.Sprintf("%#v", found))
		panic(fmt.Errorf("%s: found %s, wanted %s", what, short(found), short(wanted)))
	}
	say(what + ": as wanted")
}

func short(value any) string {
	text := strings.ReplaceAll(fmt.Sprintf("%#v", value), "\n", " ")
	return text[:min(len(text), 300)]
}

func until(what string, done func() bool) {
	for end := time.Now().Add(40 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			panic(fmt.Errorf("%s: not within 40 s", what))
		}
	}
	say(what)
}

func numbers(from, to int) (all []int) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// A member of a group: its goroutine tells here what it has been given and has read.
type member struct {
	name       string
	lock       sync.Mutex
	partitions []int
	records    []int
	failure    error
	leave      chan struct{} // closed to make it leave
	gone       chan struct{} // closed when it has
}

// start runs body, which joins, reads and commits until m.leave is closed, and leaves.
func start(name string, body func(m *member)) *member {
	m := &member{name: name, leave: make(chan struct{}), gone: make(chan struct{})}
	go func() {
		defer close(m.gone)
		defer func() {
			if thrown := recover(); thrown != nil {
				m.lock.Lock()
				defer m.lock.Unlock()
				m.failure = fmt.Errorf("%s: %v", m.name, thrown)
			}
		}()
		body(m)
	}()
	return m
}

func (m *member) leaving() bool {
	select {
	case <-m.leave:
		return true
	default:
		return false
	}
}

func (m *member) assign(partitions []int) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.partitions = partitions
	say(m.name, "has", partitions)
}

func (m *member) take(record int) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.records = append(m.records, record)
}

// groupOfTwo is the story of the case group. produce(numbers) spreads records over 4 partitions and
// waits for them; join makes a member. Records are read and committed before the members change, so
// none may be read twice.
func groupOfTwo(produce func(numbers []int), join func(name string) *member) {
	everyone := []*member{join("first")}
	here := everyone
	shares := func(wanted ...int) {
		until(fmt.Sprintf("partitions of each member: %v", wanted), func() bool {
			var sizes, all []int
			for _, m := range here {
				m.lock.Lock()
				must(m.failure)
				sizes, all = append(sizes, len(m.partitions)), append(all, m.partitions...)
				m.lock.Unlock()
			}
			slices.Sort(all)
			return slices.Equal(sizes, wanted) && slices.Equal(all, numbers(0, 4))
		})
	}
	records := func() (all []int) {
		for _, m := range everyone {
			m.lock.Lock()
			all = append(all, m.records...)
			m.lock.Unlock()
		}
		return all
	}
	read := func(count int) {
		until(fmt.Sprint(count, " records read"), func() bool { return len(records()) >= count })
		time.Sleep(500 * time.Millisecond) // for the commit behind the last of them
	}
	shares(4)
	produce(numbers(0, 200))
	read(200)
	second := join("second")
	everyone = append(everyone, second)
	here = everyone
	shares(2, 2)
	produce(numbers(200, 400))
	read(400)
	equal(len(second.records) > 0, true, "the second has read something")
	close(second.leave)
	<-second.gone
	here = everyone[:1]
	shares(4)
	produce(numbers(400, 600))
	read(600)
	close(everyone[0].leave)
	<-everyone[0].gone
	found := records()
	slices.Sort(found)
	equal(found, numbers(0, 600), "all records, each once")
}

// A pace of the case failover: says when the leader may be killed, and ends 10 s later.
type pace struct {
	topic string
	lock  sync.Mutex
	acked map[int]bool
	end   time.Time
}

func newPace(topic string) *pace { return &pace{topic: topic, acked: map[int]bool{}} }

func (p *pace) acknowledged(number int) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.acked[number] = true
}

func (p *pace) goingOn() bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.end.IsZero() && len(p.acked) >= 100 {
		fmt.Printf("ready %s 0\n", p.topic)
		p.end = time.Now().Add(10 * time.Second)
	}
	return p.end.IsZero() || time.Now().Before(p.end)
}

func (p *pace) verify(found []int) {
	p.lock.Lock()
	defer p.lock.Unlock()
	say(len(p.acked), "acknowledged,", len(found), "found")
	for _, number := range found {
		delete(p.acked, number)
	}
	equal(len(p.acked), 0, "acknowledged and not there")
}
