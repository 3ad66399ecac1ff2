import java.util.Arrays;

/** Main WHAT BOOTSTRAP TOPIC...: a program of the shows; it goes on until its input ends. */
public final class Main {
    public static void main(String[] arguments) {
        String bootstrap = arguments[1];
        String[] rest = Arrays.copyOfRange(arguments, 2, arguments.length);
        try {
            switch (arguments[0]) {
                case "create" -> Topics.create(bootstrap, Integer.parseInt(rest[0]), rest[1]);
                case "produce" -> Topics.produce(bootstrap, rest[0]);
                case "read" -> Topics.read(bootstrap, rest[0]);
                case "count" -> Count.run(bootstrap, rest[0], rest[1], rest[2], rest[3]);
                case "member" -> Member.run(bootstrap, rest[0], rest[1], rest[2], rest[3]);
                default -> throw new IllegalArgumentException(arguments[0]);
            }
        } catch (Throwable error) { // whatever it is, the runner wants its reason in the last line
            error.printStackTrace();
            System.out.println(error.toString().replace('\n', ' '));
            System.exit(1);
        }
        System.exit(0);
    }

    interface Step {
        void run() throws Exception;
    }

    /** Does it again and again until the input ends. */
    static void untilInputEnds(Step step) throws Exception {
        Thread input = new Thread(() -> {
            try {
                System.in.transferTo(java.io.OutputStream.nullOutputStream());
            } catch (java.io.IOException error) {
                throw new java.io.UncheckedIOException(error);
            }
        });
        input.setDaemon(true);
        input.start();
        while (input.isAlive()) {
            step.run();
        }
    }
}
