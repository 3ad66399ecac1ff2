package main

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

var segmentio = cases{
	"codecs": segmentioCodecs, "offsets": segmentioOffsets, "fields": segmentioFields,
	"large": segmentioLarge, "group": segmentioGroup, "commit": segmentioCommit,
	"admin": segmentioAdmin, "failover": segmentioFailover,
	"idempotence": func(_, _ string) {
		panic(notApplicable("its Writer has no idempotent producer"))
	},
}

func segmentioClient(bootstrap string) *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(strings.Split(bootstrap, ",")...), Timeout: 20 * time.Second}
}

// allOf is the first error of an answer that has one for each name.
func allOf[K comparable](answers map[K]error) error {
	for _, err := range answers {
		if err != nil {
			return err
		}
	}
	return nil
}

func segmentioCreate(bootstrap, topic string, partitions, replicas int, entries ...kafka.ConfigEntry) {
	client := segmentioClient(bootstrap)
	made := must1(client.CreateTopics(context.Background(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: topic, NumPartitions: partitions, ReplicationFactor: replicas, ConfigEntries: entries},
	}}))
	must(allOf(made.Errors))
	until(topic+" is there", func() bool { return segmentioPartitions(client, topic) == partitions })
}

// segmentioPartitions counts the partitions that have a leader.
func segmentioPartitions(client *kafka.Client, topic string) (led int) {
	found := must1(client.Metadata(context.Background(), &kafka.MetadataRequest{Topics: []string{topic}}))
	for _, partition := range found.Topics[0].Partitions {
		if partition.Leader.Host != "" {
			led++
		}
	}
	return led
}

// segmentioByNumber lays a record whose value is a number on the partition the number says, modulo.
var segmentioByNumber = kafka.BalancerFunc(func(message kafka.Message, partitions ...int) int {
	n, _ := strconv.Atoi(string(message.Value))
	return partitions[n%len(partitions)]
})

func segmentioWriter(bootstrap, topic string) *kafka.Writer {
	return &kafka.Writer{
		Addr: kafka.TCP(strings.Split(bootstrap, ",")...), Topic: topic, Balancer: segmentioByNumber,
		RequiredAcks: kafka.RequireAll, BatchTimeout: 20 * time.Millisecond, MaxAttempts: 40,
	}
}

func segmentioProduce(bootstrap, topic string, messages ...kafka.Message) {
	writer := segmentioWriter(bootstrap, topic)
	defer writer.Close()
	must(writer.WriteMessages(context.Background(), messages...))
}

func segmentioNumbered(from, to int) (messages []kafka.Message) {
	for _, n := range numbers(from, to) {
		messages = append(messages, kafka.Message{Value: []byte(strconv.Itoa(n))})
	}
	return messages
}

func segmentioReader(bootstrap, topic string, partition int) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: strings.Split(bootstrap, ","), Topic: topic, Partition: partition,
		MaxBytes: 10e6, MaxWait: 200 * time.Millisecond,
	})
}

func segmentioTake(reader *kafka.Reader, count int) (messages []kafka.Message) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for len(messages) < count {
		messages = append(messages, must1(reader.FetchMessage(ctx)))
	}
	return messages
}

func segmentioOffset(client *kafka.Client, topic string, at kafka.OffsetRequest) kafka.PartitionOffsets {
	found := must1(client.ListOffsets(context.Background(), &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {at}}}))
	must(found.Topics[topic][0].Error)
	return found.Topics[topic][0]
}

// segmentioReadAll takes all records of partition 0.
func segmentioReadAll(bootstrap, topic string) []kafka.Message {
	end := segmentioOffset(segmentioClient(bootstrap), topic, kafka.LastOffsetOf(0)).LastOffset
	reader := segmentioReader(bootstrap, topic, 0)
	defer reader.Close()
	must(reader.SetOffset(kafka.FirstOffset))
	return segmentioTake(reader, int(end))
}

func segmentioNumbers(messages []kafka.Message) (all []int) {
	for _, message := range messages {
		all = append(all, must1(strconv.Atoi(string(message.Value))))
	}
	return all
}

// What each codec has packed reads back equal, out of one log.
func segmentioCodecs(bootstrap, topic string) {
	segmentioCreate(bootstrap, topic, 1, 1)
	var sent, found []string
	for _, name := range codecNames {
		writer := segmentioWriter(bootstrap, topic)
		if name != "none" {
			must(writer.Compression.UnmarshalText([]byte(name)))
		}
		var messages []kafka.Message
		for n := range 20 {
			messages = append(messages, kafka.Message{Value: packable(name, n)})
			sent = append(sent, string(packable(name, n)))
		}
		must(writer.WriteMessages(context.Background(), messages...))
		writer.Close()
	}
	for _, message := range segmentioReadAll(bootstrap, topic) {
		found = append(found, string(message.Value))
	}
	equal(found, sent, "records of all codecs")
}

// A consumer begins wherever it is told to: at both ends, within a batch, at a time.
func segmentioOffsets(bootstrap, topic string) {
	segmentioCreate(bootstrap, topic, 1, 1)
	begin := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	batch := segmentioNumbered(0, 10)
	for n := range batch {
		batch[n].Time = begin.Add(time.Duration(n) * time.Second)
	}
	segmentioProduce(bootstrap, topic, batch...)
	reader := segmentioReader(bootstrap, topic, 0)
	defer reader.Close()
	first := func(offset int64) int {
		must(reader.SetOffset(offset))
		return segmentioNumbers(segmentioTake(reader, 1))[0]
	}
	equal(first(kafka.FirstOffset), 0, "at the beginning")
	equal(first(5), 5, "in the middle of a batch")
	must(reader.SetOffsetAt(context.Background(), begin.Add(6500*time.Millisecond)))
	equal(segmentioNumbers(segmentioTake(reader, 1)), []int{7}, "by timestamp")
	must(reader.SetOffset(kafka.LastOffset))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, early := reader.FetchMessage(ctx)
	equal(errors.Is(early, context.DeadlineExceeded), true, "at the end, before there is more")
	segmentioProduce(bootstrap, topic, segmentioNumbered(10, 11)...)
	equal(segmentioNumbers(segmentioTake(reader, 1)), []int{10}, "at the end")
}

// Headers, and keys and values that are null or empty, come back as they were.
func segmentioFields(bootstrap, topic string) {
	segmentioCreate(bootstrap, topic, 1, 1)
	for _, sent := range fieldRecords {
		message := kafka.Message{Key: sent.key, Value: sent.value}
		for _, h := range sent.headers {
			message.Headers = append(message.Headers, kafka.Header{Key: h.key, Value: h.value})
		}
		segmentioProduce(bootstrap, topic, message)
	}
	equal(segmentioFetch(bootstrap, topic, len(fieldRecords)), fieldRecords, "fields")
}

// segmentioFetch takes records with the client's lower interface: a Reader makes null of what is empty.
func segmentioFetch(bootstrap, topic string, count int) (found []record) {
	for len(found) < count {
		fetched := must1(segmentioClient(bootstrap).Fetch(context.Background(), &kafka.FetchRequest{
			Topic: topic, Offset: int64(len(found)), MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second}))
		must(fetched.Error)
		for {
			in, err := fetched.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			must(err)
			if in.Offset < int64(len(found)) {
				continue // the batch begins before it
			}
			one := record{key: must1(kafka.ReadAll(in.Key)), value: must1(kafka.ReadAll(in.Value))}
			for _, h := range in.Headers {
				one.headers = append(one.headers, header{h.Key, h.Value})
			}
			found = append(found, one)
		}
	}
	return found
}

// A record of 900 KB.
func segmentioLarge(bootstrap, topic string) {
	segmentioCreate(bootstrap, topic, 1, 1)
	segmentioProduce(bootstrap, topic, kafka.Message{Value: largeValue()})
	equal(segmentioReadAll(bootstrap, topic)[0].Value, largeValue(), "the large record")
}

// Two members share 4 partitions; one comes, one goes, and every record is read once.
func segmentioGroup(bootstrap, topic string) {
	segmentioCreate(bootstrap, topic, 4, 1)
	produce := func(n []int) {
		segmentioProduce(bootstrap, topic, segmentioNumbered(n[0], n[len(n)-1]+1)...)
	}
	groupOfTwo(produce, func(name string) *member {
		return start(name, func(m *member) { segmentioMember(bootstrap, topic, m) })
	})
}

// segmentioMember is the client's lower interface to groups: its Reader hides what it was given.
func segmentioMember(bootstrap, topic string, m *member) {
	group := must1(kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: topic + "-group", Brokers: strings.Split(bootstrap, ","), Topics: []string{topic},
		StartOffset: kafka.FirstOffset, HeartbeatInterval: 500 * time.Millisecond,
	}))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-m.leave; cancel(); group.Close() }()
	for {
		generation, err := group.Next(ctx)
		if m.leaving() {
			return
		}
		if err != nil { // as while the group's first coordinator is found; its Reader goes on, too
			say(m.name, err)
			time.Sleep(200 * time.Millisecond)
			continue
		}
		var partitions []int
		for _, assigned := range generation.Assignments[topic] {
			partitions = append(partitions, assigned.ID)
			generation.Start(func(ctx context.Context) {
				reader := segmentioReader(bootstrap, topic, assigned.ID)
				defer reader.Close()
				must(reader.SetOffset(assigned.Offset))
				segmentioClaim(ctx, reader, generation, m)
			})
		}
		m.assign(partitions)
	}
}

// segmentioClaim reads a partition until the generation ends, and commits each record.
func segmentioClaim(ctx context.Context, reader *kafka.Reader, generation *kafka.Generation, m *member) {
	for {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return // the generation's end
		}
		next := map[int]int64{message.Partition: message.Offset + 1}
		must(generation.CommitOffsets(map[string]map[int]int64{message.Topic: next}))
		m.take(segmentioNumbers([]kafka.Message{message})[0])
	}
}

func segmentioJoin(bootstrap, topic string) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: strings.Split(bootstrap, ","), GroupID: topic + "-group", Topic: topic,
		StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond,
	})
}

func segmentioCommitted(client *kafka.Client, topic string) kafka.OffsetFetchPartition {
	found := must1(client.OffsetFetch(context.Background(), &kafka.OffsetFetchRequest{
		GroupID: topic + "-group", Topics: map[string][]int{topic: {0}}}))
	must(found.Error)
	return found.Topics[topic][0]
}

// A group that stopped goes on where it had committed, and finds the note it left there.
func segmentioCommit(bootstrap, topic string) {
	segmentioCreate(bootstrap, topic, 1, 1)
	segmentioProduce(bootstrap, topic, segmentioNumbered(0, 10)...)
	client := segmentioClient(bootstrap)
	reader := segmentioJoin(bootstrap, topic)
	read := segmentioTake(reader, 5)
	must(reader.CommitMessages(context.Background(), read...))
	must(reader.Close())
	equal(segmentioCommitted(client, topic).CommittedOffset, int64(5), "committed")
	// A Reader cannot leave a note, the client below it can.
	must1(client.OffsetCommit(context.Background(), &kafka.OffsetCommitRequest{
		GroupID: topic + "-group", GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: 0, Offset: 5, Metadata: "half"}}}}))
	equal(segmentioCommitted(client, topic).Metadata, "half", "the note")
	reader = segmentioJoin(bootstrap, topic)
	defer reader.Close()
	equal(segmentioNumbers(segmentioTake(reader, 5)), numbers(5, 10), "the other half")
}

// A topic and a group from the cradle to the grave, by the client's requests (which has none to
// delete records).
func segmentioAdmin(bootstrap, topic string) {
	ctx, client := context.Background(), segmentioClient(bootstrap)
	segmentioCreate(bootstrap, topic, 2, 1, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "3600000"})
	more := must1(client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 4}}}))
	must(allOf(more.Errors))
	until("4 partitions", func() bool { return segmentioPartitions(client, topic) == 4 })

	retention := func() string {
		found := must1(client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
			Resources: []kafka.DescribeConfigRequestResource{{
				ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"}}}}))
		must(found.Resources[0].Error)
		return found.Resources[0].ConfigEntries[0].ConfigValue
	}
	equal(retention(), "3600000", "retention.ms as created")
	changed := must1(client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{
				Name: "retention.ms", Value: "7200000", ConfigOperation: kafka.ConfigOperationSet}}}}}))
	must(changed.Resources[0].Error)
	until("retention.ms as altered", func() bool { return retention() == "7200000" })
	segmentioAdminGroup(bootstrap, topic, client)

	must(allOf(must1(client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})).Errors))
	until("the topic is gone", func() bool { return segmentioPartitions(client, topic) == 0 })
}

func segmentioAdminGroup(bootstrap, topic string, client *kafka.Client) {
	ctx, group := context.Background(), topic+"-group"
	segmentioProduce(bootstrap, topic, segmentioNumbered(0, 10)...)
	reader := segmentioJoin(bootstrap, topic)
	must(reader.CommitMessages(ctx, segmentioTake(reader, 10)...))
	listed := func() bool {
		found := must1(client.ListGroups(ctx, &kafka.ListGroupsRequest{}))
		must(found.Error)
		for _, one := range found.Groups {
			if one.GroupID == group {
				return true
			}
		}
		return false
	}
	equal(listed(), true, "the group is listed")
	described := must1(client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})).Groups[0]
	must(described.Error)
	equal(described.GroupState, "Stable", "the group's state")
	must(reader.Close())
	equal(segmentioCommitted(client, topic).CommittedOffset > 0, true, "the group has an offset")
	must(allOf(must1(client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})).Errors))
	equal(listed(), false, "the group is listed, after it was deleted")
}

// The leader is killed under load: every acknowledged record is read back.
func segmentioFailover(bootstrap, topic string) {
	segmentioCreate(bootstrap, topic, 1, 3)
	pace := newPace(topic)
	writer := segmentioWriter(bootstrap, topic)
	writer.Async, writer.BatchTimeout = true, 5*time.Millisecond
	writer.Completion = func(messages []kafka.Message, err error) {
		if err != nil {
			say("not acknowledged:", err)
			return
		}
		for _, n := range segmentioNumbers(messages) {
			pace.acknowledged(n)
		}
	}
	number := 0
	for ; pace.goingOn(); number++ {
		must(writer.WriteMessages(context.Background(), segmentioNumbered(number, number+1)...))
		time.Sleep(time.Millisecond)
	}
	must(writer.Close())
	segmentioProduce(bootstrap, topic, segmentioNumbered(number, number+1)...)
	pace.acknowledged(number)
	pace.verify(segmentioNumbers(segmentioReadAll(bootstrap, topic)))
}
