import java.util.List;

/** Main CLIENT CASE BOOTSTRAP PREFIX: one case with Kafka's own client. */
public final class Main {
    interface Case {
        void run(String bootstrap, String topic) throws Exception;
    }

    public static void main(String[] arguments) {
        String name = arguments[1];
        String protocol = arguments[0].equals("java-consumer") ? "consumer" : "classic";
        Cases cases = new Cases(protocol);
        Case run = switch (name) {
            case "codecs" -> cases::codecs;
            case "offsets" -> cases::offsets;
            case "fields" -> cases::fields;
            case "large" -> cases::large;
            case "idempotence" -> cases::idempotence;
            case "group" -> cases::group;
            case "commit" -> cases::commit;
            case "admin" -> new AdminCase(cases)::run;
            case "failover" -> cases::failover;
            case "together" -> new Together(cases)::run;
            case "mixed" -> cases::mixed;
            default -> throw new IllegalArgumentException(name);
        };
        try {
            run.run(arguments[2], arguments[3] + "-" + name);
        } catch (Throwable error) { // whatever it is, the runner wants its reason in the last line
            error.printStackTrace();
            System.out.println(error.toString().replace('\n', ' '));
            System.exit(1);
        }
        System.exit(0); // threads of clients that a case left open do not matter any more
    }

    static void equal(Object found, Object wanted, String what) {
        if (!found.equals(wanted)) {
            throw new AssertionError(what + ": found " + cut(found) + ", wanted " + cut(wanted));
        }
        System.err.println(what + ": as wanted");
    }

    private static String cut(Object value) {
        String text = value.toString();
        return text.substring(0, Math.min(text.length(), 200));
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static void until(String what, Condition done) throws Exception {
        long end = System.nanoTime() + 40_000_000_000L;
        while (!done.holds()) {
            if (System.nanoTime() > end) {
                throw new AssertionError(what + ": not within 40 s");
            }
            Thread.sleep(20);
        }
        System.err.println(what);
    }

    static List<Integer> numbers(int from, int to) {
        return java.util.stream.IntStream.range(from, to).boxed().toList();
    }
}
