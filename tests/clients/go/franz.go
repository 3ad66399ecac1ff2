package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var franz = cases{
	"codecs": franzCodecs, "offsets": franzOffsets, "fields": franzFields, "large": franzLarge,
	"idempotence": franzIdempotence, "group": franzGroup, "commit": franzCommit,
	"admin": franzAdmin, "failover": franzFailover,
}

func franzClient(bootstrap string, options ...kgo.Opt) *kgo.Client {
	return must1(kgo.NewClient(append(options,
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)...))
}

func franzCreate(bootstrap, topic string, partitions int32, replicas int16) {
	client := franzClient(bootstrap)
	defer client.Close()
	admin := kadm.NewClient(client)
	must1(admin.CreateTopic(context.Background(), partitions, replicas, nil, topic))
	until(topic+" is there", func() bool {
		return must1(admin.ListTopics(context.Background(), topic)).Has(topic)
	})
}

// franzRead takes the next count records.
func franzRead(client *kgo.Client, count int) (records []*kgo.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for len(records) < count {
		fetches := client.PollRecords(ctx, count-len(records))
		must(fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func franzConsumer(bootstrap, topic string, at kgo.Offset) *kgo.Client {
	return franzClient(bootstrap, kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {0: at}}))
}

// franzReadAll takes all records of partition 0.
func franzReadAll(bootstrap, topic string) []*kgo.Record {
	client := franzConsumer(bootstrap, topic, kgo.NewOffset().AtStart())
	defer client.Close()
	ends := must1(kadm.NewClient(client).ListEndOffsets(context.Background(), topic))
	end, _ := ends.Lookup(topic, 0)
	return franzRead(client, int(end.Offset))
}

func franzNumbers(records []*kgo.Record) (all []int) {
	for _, record := range records {
		all = append(all, must1(strconv.Atoi(string(record.Value))))
	}
	return all
}

func franzProduce(client *kgo.Client, records ...*kgo.Record) {
	must(client.ProduceSync(context.Background(), records...).FirstErr())
}

func franzNumbered(topic string, from, to, partitions int) (records []*kgo.Record) {
	for _, n := range numbers(from, to) {
		value := []byte(strconv.Itoa(n))
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(n % partitions), Value: value})
	}
	return records
}

// What each codec has packed reads back equal, out of one log.
func franzCodecs(bootstrap, topic string) {
	franzCreate(bootstrap, topic, 1, 1)
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	var sent, found []string
	for _, codec := range codecNames {
		client := franzClient(bootstrap, kgo.ProducerBatchCompression(codecs[codec]))
		for n := range 20 {
			value := packable(codec, n)
			franzProduce(client, &kgo.Record{Topic: topic, Value: value})
			sent = append(sent, string(value))
		}
		client.Close()
	}
	for _, record := range franzReadAll(bootstrap, topic) {
		found = append(found, string(record.Value))
	}
	equal(found, sent, "records of all codecs")
}

// A consumer begins wherever it is told to: at both ends, within a batch, at a time.
func franzOffsets(bootstrap, topic string) {
	franzCreate(bootstrap, topic, 1, 1)
	begin := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	batch := franzNumbered(topic, 0, 10, 1)
	for n, record := range batch {
		record.Timestamp = begin.Add(time.Duration(n) * time.Second)
	}
	producer := franzClient(bootstrap, kgo.ProducerLinger(500*time.Millisecond))
	defer producer.Close()
	franzProduce(producer, batch...)
	first := func(at kgo.Offset) int {
		client := franzConsumer(bootstrap, topic, at)
		defer client.Close()
		return franzNumbers(franzRead(client, 1))[0]
	}
	equal(first(kgo.NewOffset().AtStart()), 0, "at the beginning")
	equal(first(kgo.NewOffset().At(5)), 5, "in the middle of a batch")
	equal(first(kgo.NewOffset().AfterMilli(begin.UnixMilli()+6500)), 7, "by timestamp")
	client := franzConsumer(bootstrap, topic, kgo.NewOffset().AtEnd())
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	equal(client.PollFetches(ctx).NumRecords(), 0, "at the end, before there is more")
	franzProduce(producer, franzNumbered(topic, 10, 11, 1)...)
	equal(franzNumbers(franzRead(client, 1)), []int{10}, "at the end")
}

// Headers, and keys and values that are null or empty, come back as they were.
func franzFields(bootstrap, topic string) {
	franzCreate(bootstrap, topic, 1, 1)
	producer := franzClient(bootstrap)
	defer producer.Close()
	for _, sent := range fieldRecords {
		out := &kgo.Record{Topic: topic, Key: sent.key, Value: sent.value}
		for _, h := range sent.headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.key, Value: h.value})
		}
		franzProduce(producer, out)
	}
	var found []record
	for _, in := range franzReadAll(bootstrap, topic) {
		one := record{key: in.Key, value: in.Value}
		for _, h := range in.Headers {
			one.headers = append(one.headers, header{h.Key, h.Value})
		}
		found = append(found, one)
	}
	equal(found, fieldRecords, "fields")
}

// A record of 900 KB.
func franzLarge(bootstrap, topic string) {
	franzCreate(bootstrap, topic, 1, 1)
	producer := franzClient(bootstrap)
	defer producer.Close()
	franzProduce(producer, &kgo.Record{Topic: topic, Value: largeValue()})
	equal(franzReadAll(bootstrap, topic)[0].Value, largeValue(), "the large record")
}

// 10 000 records of an idempotent producer (which it is by default): all, in order, none twice.
func franzIdempotence(bootstrap, topic string) {
	franzCreate(bootstrap, topic, 1, 1)
	producer := franzClient(bootstrap)
	defer producer.Close()
	franzProduce(producer, franzNumbered(topic, 0, 10_000, 1)...)
	equal(franzNumbers(franzReadAll(bootstrap, topic)), numbers(0, 10_000), "10 000 records")
}

// Two members share 4 partitions; one comes, one goes, and every record is read once.
func franzGroup(bootstrap, topic string) {
	franzCreate(bootstrap, topic, 4, 1)
	producer := franzClient(bootstrap)
	defer producer.Close()
	produce := func(n []int) { franzProduce(producer, franzNumbered(topic, n[0], n[len(n)-1]+1, 4)...) }
	groupOfTwo(produce, func(name string) *member {
		return start(name, func(m *member) { franzMember(bootstrap, topic, m) })
	})
}

func franzMember(bootstrap, topic string, m *member) {
	held := map[int]bool{}
	tell := func(change map[string][]int32, has bool) {
		for _, partition := range change[topic] {
			held[int(partition)] = has
		}
		var now []int
		for partition, has := range held {
			if has {
				now = append(now, partition)
			}
		}
		m.assign(now)
	}
	assigned := func(_ context.Context, _ *kgo.Client, new map[string][]int32) { tell(new, true) }
	lost := func(_ context.Context, _ *kgo.Client, old map[string][]int32) { tell(old, false) }
	client := franzClient(bootstrap, kgo.ConsumerGroup(topic+"-group"), kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(), kgo.OnPartitionsAssigned(assigned), kgo.OnPartitionsRevoked(lost),
		kgo.OnPartitionsLost(lost))
	defer client.Close()
	for !m.leaving() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		records := client.PollFetches(ctx).Records()
		cancel()
		if len(records) > 0 {
			must(client.CommitRecords(context.Background(), records...))
		}
		for _, n := range franzNumbers(records) {
			m.take(n)
		}
	}
}

// A group that stopped goes on where it had committed, and finds the note it left there.
func franzCommit(bootstrap, topic string) {
	franzCreate(bootstrap, topic, 1, 1)
	producer := franzClient(bootstrap)
	defer producer.Close()
	franzProduce(producer, franzNumbered(topic, 0, 10, 1)...)
	group := topic + "-group"
	join := func() *kgo.Client {
		return franzClient(bootstrap, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
			kgo.DisableAutoCommit())
	}
	client := join()
	franzRead(client, 5)
	var place kadm.Offsets
	place.Add(kadm.Offset{Topic: topic, Partition: 0, At: 5, LeaderEpoch: -1, Metadata: "half"})
	client.Close()
	admin := kadm.NewClient(producer)
	must(admin.CommitAllOffsets(context.Background(), group, place))
	found, _ := must1(admin.FetchOffsets(context.Background(), group)).Lookup(topic, 0)
	equal([]any{found.At, found.Metadata}, []any{int64(5), "half"}, "committed")
	client = join()
	defer client.Close()
	equal(franzNumbers(franzRead(client, 5)), numbers(5, 10), "the other half")
}

// A topic and a group from the cradle to the grave, by the admin client.
func franzAdmin(bootstrap, topic string) {
	ctx := context.Background()
	client := franzClient(bootstrap)
	defer client.Close()
	admin := kadm.NewClient(client)
	hour, two := "3600000", "7200000"
	must1(admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &hour}, topic))
	partitions := func() int { return len(must1(admin.ListTopics(ctx, topic))[topic].Partitions) }
	until("2 partitions", func() bool { return partitions() == 2 })
	must(must1(admin.CreatePartitions(ctx, 2, topic)).Error())
	until("4 partitions", func() bool { return partitions() == 4 })

	retention := func() string {
		configs := must1(must1(admin.DescribeTopicConfigs(ctx, topic)).On(topic, nil))
		at := slices.IndexFunc(configs.Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" })
		return configs.Configs[at].MaybeValue()
	}
	equal(retention(), hour, "retention.ms as created")
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &two}}
	must(must1(must1(admin.AlterTopicConfigs(ctx, change, topic)).On(topic, nil)).Err)
	until("retention.ms as altered", func() bool { return retention() == two })

	franzProduce(client, franzNumbered(topic, 0, 10, 1)...)
	var before kadm.Offsets
	before.AddOffset(topic, 0, 4, -1)
	must(must1(admin.DeleteRecords(ctx, before)).Error())
	start, _ := must1(admin.ListStartOffsets(ctx, topic)).Lookup(topic, 0)
	equal(start.Offset, int64(4), "what is left")
	franzAdminGroup(bootstrap, topic, admin)

	must(must1(admin.DeleteTopics(ctx, topic)).Error())
	until("the topic is gone", func() bool { return !must1(admin.ListTopics(ctx)).Has(topic) })
}

func franzAdminGroup(bootstrap, topic string, admin *kadm.Client) {
	ctx, group := context.Background(), topic+"-group"
	reader := franzClient(bootstrap, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit())
	franzRead(reader, 6)
	must(reader.CommitUncommittedOffsets(ctx))
	equal(slices.Contains(must1(admin.ListGroups(ctx)).Groups(), group), true, "the group is listed")
	described := must1(must1(admin.DescribeGroups(ctx, group)).On(group, nil))
	equal(fmt.Sprint(described.State, len(described.Members)), "Stable1", "the group's state")
	reader.Close()
	offset, _ := must1(admin.FetchOffsets(ctx, group)).Lookup(topic, 0)
	equal(offset.At, int64(10), "the group's offset")
	must(must1(must1(admin.DeleteGroups(ctx, group)).On(group, nil)).Err)
	listed := must1(admin.ListGroups(ctx)).Groups()
	equal(slices.Contains(listed, group), false, "the group is listed, after it was deleted")
	_, err := admin.DeleteGroup(ctx, group)
	equal(err, error(kerr.GroupIDNotFound), "deleting it again")
}

// The leader is killed under load: every acknowledged record is read back.
func franzFailover(bootstrap, topic string) {
	franzCreate(bootstrap, topic, 1, 3)
	producer := franzClient(bootstrap, kgo.RequiredAcks(kgo.AllISRAcks()))
	defer producer.Close()
	pace, number := newPace(topic), 0
	for ; pace.goingOn(); number++ {
		n := number
		producer.Produce(context.Background(), franzNumbered(topic, n, n+1, 1)[0],
			func(_ *kgo.Record, err error) {
				if err == nil {
					pace.acknowledged(n)
				}
			})
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	must(producer.Flush(ctx))
	franzProduce(producer, franzNumbered(topic, number, number+1, 1)...)
	pace.acknowledged(number)
	pace.verify(franzNumbers(franzReadAll(bootstrap, topic)))
}
