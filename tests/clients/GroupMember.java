/* A member of a group that is Kafka's own consumer. It takes and tells what `group_member.py` does:
 * java GroupMember BOOTSTRAP GROUP TOPIC key=value ...; nanoTime is the clock of time.monotonic. */

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class GroupMember {
    static synchronized void tell(String what, String rest) {
        String line = String.format(Locale.ROOT, "%s %.9f %s", what, System.nanoTime() / 1e9, rest);
        System.out.println(line.strip());
        System.out.flush();
    }

    static void tellPartitions(String what, Collection<TopicPartition> partitions) {
        tell(what, partitions.stream().map(each -> "" + each.partition()).sorted()
            .collect(Collectors.joining(" ")));
    }

    static final ConsumerRebalanceListener LISTENER = new ConsumerRebalanceListener() {
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            tellPartitions("assigned", partitions);
        }

        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            tellPartitions("revoked", partitions);
        }
    };

    public static void main(String[] words) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", words[0]);
        settings.put("group.id", words[1]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("fetch.max.wait.ms", "100");
        for (int at = 3; at < words.length; at++) {
            String[] pair = words[at].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        AtomicBoolean leave = new AtomicBoolean();
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException error) {
                System.err.println(error);
            }
            leave.set(true);
        });
        watch.setDaemon(true);
        watch.start();
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            consumer.subscribe(List.of(words[2]), LISTENER);
            while (!leave.get()) {
                var records = consumer.poll(Duration.ofMillis(100));
                records.forEach(each -> tell("read", each.partition() + " " + each.offset()));
                try {
                    if (!records.isEmpty()) {
                        consumer.commitSync();
                    }
                } catch (CommitFailedException | RebalanceInProgressException error) {
                    // Somebody else reads that again.
                } catch (RetriableException error) {
                    System.err.println(error);
                }
            }
        }
        tell("left", "");
    }
}
