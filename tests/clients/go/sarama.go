package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

var saramaCases = cases{
	"codecs": saramaCodecs, "offsets": saramaOffsets, "fields": saramaFields, "large": saramaLarge,
	"idempotence": saramaIdempotence, "group": saramaGroup, "commit": saramaCommit,
	"admin": saramaAdmin, "failover": saramaFailover,
}

func saramaConfig(change func(config *sarama.Config)) *sarama.Config {
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	if change != nil {
		change(config)
	}
	return config
}

func saramaClient(bootstrap string, change func(config *sarama.Config)) sarama.Client {
	return must1(sarama.NewClient(strings.Split(bootstrap, ","), saramaConfig(change)))
}

func saramaCreate(bootstrap, topic string, partitions int32, replicas int16) {
	admin := must1(sarama.NewClusterAdminFromClient(saramaClient(bootstrap, nil)))
	defer admin.Close()
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: replicas}
	must(admin.CreateTopic(topic, detail, false))
	until(topic+" is there", func() bool {
		return must1(admin.DescribeTopics([]string{topic}))[0].Err == sarama.ErrNoError
	})
}

func saramaProduce(client sarama.Client, messages ...*sarama.ProducerMessage) {
	producer := must1(sarama.NewSyncProducerFromClient(client))
	defer producer.Close()
	must(producer.SendMessages(messages))
}

func saramaNumbered(topic string, from, to, partitions int) (messages []*sarama.ProducerMessage) {
	for _, n := range numbers(from, to) {
		message := &sarama.ProducerMessage{Topic: topic, Partition: int32(n % partitions)}
		message.Value = sarama.StringEncoder(strconv.Itoa(n))
		messages = append(messages, message)
	}
	return messages
}

// saramaRead takes count messages of partition 0 from the offset on.
func saramaRead(client sarama.Client, topic string, offset int64, count int) []*sarama.ConsumerMessage {
	consumer := must1(sarama.NewConsumerFromClient(client))
	defer consumer.Close()
	partition := must1(consumer.ConsumePartition(topic, 0, offset))
	defer partition.Close()
	return saramaTake(partition, count)
}

func saramaTake(partition sarama.PartitionConsumer, count int) (messages []*sarama.ConsumerMessage) {
	late := time.After(30 * time.Second)
	for len(messages) < count {
		select {
		case message := <-partition.Messages():
			messages = append(messages, message)
		case <-late:
			panic(fmt.Errorf("%d of %d records within 30 s", len(messages), count))
		}
	}
	return messages
}

func saramaReadAll(client sarama.Client, topic string) []*sarama.ConsumerMessage {
	end := must1(client.GetOffset(topic, 0, sarama.OffsetNewest))
	return saramaRead(client, topic, sarama.OffsetOldest, int(end))
}

func saramaNumbers(messages []*sarama.ConsumerMessage) (all []int) {
	for _, message := range messages {
		all = append(all, must1(strconv.Atoi(string(message.Value))))
	}
	return all
}

// What each codec has packed reads back equal, out of one log.
func saramaCodecs(bootstrap, topic string) {
	saramaCreate(bootstrap, topic, 1, 1)
	var sent, found []string
	for _, name := range codecNames {
		var codec sarama.CompressionCodec
		must(codec.UnmarshalText([]byte(name)))
		client := saramaClient(bootstrap, func(c *sarama.Config) { c.Producer.Compression = codec })
		var messages []*sarama.ProducerMessage
		for n := range 20 {
			value := packable(name, n)
			messages = append(messages, &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(value)})
			sent = append(sent, string(value))
		}
		saramaProduce(client, messages...)
		client.Close()
	}
	client := saramaClient(bootstrap, nil)
	defer client.Close()
	for _, message := range saramaReadAll(client, topic) {
		found = append(found, string(message.Value))
	}
	equal(found, sent, "records of all codecs")
}

// A consumer begins wherever it is told to: at both ends, within a batch, at a time.
func saramaOffsets(bootstrap, topic string) {
	saramaCreate(bootstrap, topic, 1, 1)
	client := saramaClient(bootstrap, func(c *sarama.Config) {
		c.Producer.Flush.Messages, c.Producer.Flush.Frequency = 10, 500*time.Millisecond
	})
	defer client.Close()
	begin := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	batch := saramaNumbered(topic, 0, 10, 1)
	for n, message := range batch {
		message.Timestamp = begin.Add(time.Duration(n) * time.Second)
	}
	saramaProduce(client, batch...)
	first := func(offset int64) int { return saramaNumbers(saramaRead(client, topic, offset, 1))[0] }
	equal(first(sarama.OffsetOldest), 0, "at the beginning")
	equal(first(5), 5, "in the middle of a batch")
	equal(first(must1(client.GetOffset(topic, 0, begin.UnixMilli()+6500))), 7, "by timestamp")
	consumer := must1(sarama.NewConsumerFromClient(client))
	defer consumer.Close()
	partition := must1(consumer.ConsumePartition(topic, 0, sarama.OffsetNewest))
	defer partition.Close()
	select {
	case early := <-partition.Messages():
		panic(fmt.Errorf("at the end, before there is more: found %s", early.Value))
	case <-time.After(2 * time.Second):
	}
	saramaProduce(client, saramaNumbered(topic, 10, 11, 1)...)
	equal(saramaNumbers(saramaTake(partition, 1)), []int{10}, "at the end")
}

// Headers, and keys and values that are null or empty, come back as they were.
func saramaFields(bootstrap, topic string) {
	saramaCreate(bootstrap, topic, 1, 1)
	client := saramaClient(bootstrap, nil)
	defer client.Close()
	for _, sent := range fieldRecords {
		message := &sarama.ProducerMessage{Topic: topic}
		if sent.key != nil {
			message.Key = sarama.ByteEncoder(sent.key)
		}
		if sent.value != nil {
			message.Value = sarama.ByteEncoder(sent.value)
		}
		for _, h := range sent.headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.key), Value: h.value})
		}
		saramaProduce(client, message)
	}
	var found []record
	for _, message := range saramaReadAll(client, topic) {
		one := record{key: message.Key, value: message.Value}
		for _, h := range message.Headers {
			one.headers = append(one.headers, header{string(h.Key), h.Value})
		}
		found = append(found, one)
	}
	equal(found, fieldRecords, "fields")
}

// A record of 900 KB.
func saramaLarge(bootstrap, topic string) {
	saramaCreate(bootstrap, topic, 1, 1)
	client := saramaClient(bootstrap, nil)
	defer client.Close()
	saramaProduce(client, &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(largeValue())})
	equal(saramaReadAll(client, topic)[0].Value, largeValue(), "the large record")
}

func saramaIdempotent(config *sarama.Config) {
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1 // the client asks for it
}

// 10 000 records of an idempotent producer: all, in order, none twice.
func saramaIdempotence(bootstrap, topic string) {
	saramaCreate(bootstrap, topic, 1, 1)
	client := saramaClient(bootstrap, saramaIdempotent)
	defer client.Close()
	saramaProduce(client, saramaNumbered(topic, 0, 10_000, 1)...)
	equal(saramaNumbers(saramaReadAll(client, topic)), numbers(0, 10_000), "10 000 records")
}

func saramaJoin(bootstrap, topic string) sarama.ConsumerGroup {
	brokers := strings.Split(bootstrap, ",")
	return must1(sarama.NewConsumerGroup(brokers, topic+"-group", saramaConfig(nil)))
}

// A saramaMember is the handler of a member's claims.
type saramaMember struct {
	m     *member
	topic string
}

func (h saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	var partitions []int
	for _, partition := range session.Claims()[h.topic] {
		partitions = append(partitions, int(partition))
	}
	h.m.assign(partitions)
	return nil
}

func (h saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	h.m.assign(nil)
	return nil
}

func (h saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	var read []*sarama.ConsumerMessage
	for message := range claim.Messages() {
		session.MarkMessage(message, "")
		read = append(read, message)
		if len(claim.Messages()) > 0 {
			continue // a commit waits behind a fetch on the same connection, half a second of it
		}
		session.Commit()
		for _, n := range saramaNumbers(read) {
			h.m.take(n)
		}
		read = nil
	}
	return nil
}

// Two members share 4 partitions; one comes, one goes, and every record is read once.
func saramaGroup(bootstrap, topic string) {
	saramaCreate(bootstrap, topic, 4, 1)
	client := saramaClient(bootstrap, nil)
	defer client.Close()
	produce := func(n []int) { saramaProduce(client, saramaNumbered(topic, n[0], n[len(n)-1]+1, 4)...) }
	groupOfTwo(produce, func(name string) *member {
		return start(name, func(m *member) {
			group := saramaJoin(bootstrap, topic)
			defer group.Close()
			ctx, cancel := context.WithCancel(context.Background())
			go func() { <-m.leave; cancel() }()
			for ctx.Err() == nil {
				must(group.Consume(ctx, []string{topic}, saramaMember{m, topic}))
			}
		})
	})
}

// saramaHalf takes count messages, and commits what it has with a note.
type saramaHalf struct {
	count int
	found []*sarama.ConsumerMessage
	done  context.CancelFunc
}

func (*saramaHalf) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*saramaHalf) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *saramaHalf) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		h.found = append(h.found, message)
		session.MarkMessage(message, "half")
		if len(h.found) == h.count {
			session.Commit()
			h.done()
			break
		}
	}
	return nil
}

func saramaConsume(bootstrap, topic string, count int) []*sarama.ConsumerMessage {
	group := saramaJoin(bootstrap, topic)
	defer group.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	half := &saramaHalf{count: count, done: cancel}
	must(group.Consume(ctx, []string{topic}, half))
	return half.found
}

// A group that stopped goes on where it had committed, and finds the note it left there.
func saramaCommit(bootstrap, topic string) {
	saramaCreate(bootstrap, topic, 1, 1)
	client := saramaClient(bootstrap, nil)
	admin := must1(sarama.NewClusterAdminFromClient(client))
	defer admin.Close()
	saramaProduce(client, saramaNumbered(topic, 0, 10, 1)...)
	saramaConsume(bootstrap, topic, 5)
	found := must1(admin.ListConsumerGroupOffsets(topic+"-group", map[string][]int32{topic: {0}}))
	block := found.GetBlock(topic, 0)
	equal(fmt.Sprint(block.Offset, " ", block.Metadata), "5 half", "committed")
	equal(saramaNumbers(saramaConsume(bootstrap, topic, 5)), numbers(5, 10), "the other half")
}

// A topic and a group from the cradle to the grave, by the admin client.
func saramaAdmin(bootstrap, topic string) {
	client := saramaClient(bootstrap, nil)
	admin := must1(sarama.NewClusterAdminFromClient(client))
	defer admin.Close()
	hour, two := "3600000", "7200000"
	must(admin.CreateTopic(topic, &sarama.TopicDetail{
		NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &hour},
	}, false))
	partitions := func() int { return len(must1(admin.DescribeTopics([]string{topic}))[0].Partitions) }
	until("2 partitions", func() bool { return partitions() == 2 })
	must(admin.CreatePartitions(topic, 4, nil, false))
	until("4 partitions", func() bool { return partitions() == 4 })

	resource := sarama.ConfigResource{
		Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}}
	retention := func() string { return must1(admin.DescribeConfig(resource))[0].Value }
	equal(retention(), hour, "retention.ms as created")
	change := map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &two}}
	must(admin.IncrementalAlterConfig(sarama.TopicResource, topic, change, false))
	until("retention.ms as altered", func() bool { return retention() == two })
	must(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"retention.ms": &hour}, false))
	until("retention.ms as altered the old way", func() bool { return retention() == hour })

	saramaProduce(client, saramaNumbered(topic, 0, 10, 1)...)
	must(admin.DeleteRecords(topic, map[int32]int64{0: 4}))
	equal(must1(client.GetOffset(topic, 0, sarama.OffsetOldest)), int64(4), "what is left")
	saramaAdminGroup(bootstrap, topic, admin)

	must(admin.DeleteTopic(topic))
	until("the topic is gone", func() bool {
		_, there := must1(admin.ListTopics())[topic]
		return !there
	})
}

func saramaAdminGroup(bootstrap, topic string, admin sarama.ClusterAdmin) {
	group := topic + "-group"
	saramaConsume(bootstrap, topic, 6)
	listed := func() bool {
		_, there := must1(admin.ListConsumerGroups())[group]
		return there
	}
	equal(listed(), true, "the group is listed")
	described := must1(admin.DescribeConsumerGroups([]string{group}))[0]
	equal(described.State, "Empty", "the group's state")
	offsets := must1(admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}}))
	equal(offsets.GetBlock(topic, 0).Offset, int64(10), "the group's offset")
	must(admin.DeleteConsumerGroupOffset(group, topic, 0))
	must(admin.DeleteConsumerGroup(group))
	equal(listed(), false, "the group is listed, after it was deleted")
}

// The leader is killed under load: every acknowledged record is read back.
func saramaFailover(bootstrap, topic string) {
	saramaCreate(bootstrap, topic, 1, 3)
	client := saramaClient(bootstrap, func(c *sarama.Config) {
		saramaIdempotent(c)
		// Three tries of 100 ms, the default, end before anybody else leads.
		c.Producer.Retry.Max, c.Producer.Retry.Backoff = 100, 200*time.Millisecond
		c.Metadata.Retry.Max = 40
	})
	defer client.Close()
	producer := must1(sarama.NewAsyncProducerFromClient(client))
	pace := newPace(topic)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for message := range producer.Successes() {
			pace.acknowledged(message.Metadata.(int))
		}
	}()
	go func() {
		for failed := range producer.Errors() {
			say("not acknowledged:", failed.Err)
		}
	}()
	number := 0
	for ; pace.goingOn(); number++ {
		message := saramaNumbered(topic, number, number+1, 1)[0]
		message.Metadata = number
		producer.Input() <- message
		time.Sleep(time.Millisecond)
	}
	producer.AsyncClose()
	<-answered
	saramaProduce(client, saramaNumbered(topic, number, number+1, 1)...)
	pace.acknowledged(number)
	pace.verify(saramaNumbers(saramaReadAll(client, topic)))
}
