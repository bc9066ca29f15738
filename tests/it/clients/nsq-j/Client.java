// nsq-j; see ../README.md.
import com.sproutsocial.nsq.Message;
import com.sproutsocial.nsq.Publisher;
import com.sproutsocial.nsq.Subscriber;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

public class Client {
    static final Set<String> published = ConcurrentHashMap.newKeySet();
    static final Set<String> consumed = ConcurrentHashMap.newKeySet();

    static synchronized void say(String fact, String body) {
        System.out.println(fact + " " + body);
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        String topic = args[2];
        int count = Integer.parseInt(args[3]);
        List<Publisher> publishers = new ArrayList<>();
        for (String address : args[0].split(",")) {
            publishers.add(new Publisher(address));
        }
        Subscriber subscriber = new Subscriber(1, args[1].split(","));
        subscriber.setDefaultMaxInFlight(20);
        subscriber.subscribe(topic, "clients", (Message message) -> {
            String body = new String(message.getData(), StandardCharsets.UTF_8);
            consumed.add(body);
            say("consumed", body);
            message.finish();
        });
        int at = 0;
        for (int index = 0; index < count; index++) {
            String body = "m" + index;
            while (true) {
                try {
                    publishers.get(at++ % publishers.size())
                        .publish(topic, body.getBytes(StandardCharsets.UTF_8));
                    break;
                } catch (RuntimeException error) {
                    Thread.sleep(20);
                }
            }
            published.add(body);
            say("published", body);
            Thread.sleep(5);
        }
        while (!consumed.containsAll(published)) {
            Thread.sleep(20);
        }
        System.out.println("done");
        System.out.flush();
        System.exit(0);
    }
}
