import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

/** Threads, garbage, exceptions that are faults, a child process. */
public class Threads {
    static int[] nothing;

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Integer>> parts = new ArrayList<>();
        for (int n = 0; n < 20; n++) {
            final int k = n;
            parts.add(pool.submit(() -> {
                int sum = 0;
                for (int i = 0; i < 10000; i++) sum += i % (k + 1);
                return sum;
            }));
        }
        long total = 0;
        for (Future<Integer> part : parts) total += part.get();
        pool.shutdown();
        System.out.println("total " + total + " " + pool.awaitTermination(10, TimeUnit.SECONDS));
        List<byte[]> kept = new ArrayList<>();
        for (int i = 0; i < 3000; i++) {
            byte[] block = new byte[30000];
            if (i % 300 == 0) kept.add(block);
        }
        System.gc();
        System.out.println("kept " + kept.size());
        int caught = 0;
        for (int i = 0; i < 20000; i++) {
            try {
                caught += nothing[0];
            } catch (NullPointerException e) {
                caught++;
            }
        }
        System.out.println("caught " + caught);
        AtomicInteger turn = new AtomicInteger();
        Thread other = new Thread(() -> {
            for (int i = 0; i < 50; i++) {
                while (turn.get() % 2 == 0) Thread.onSpinWait();
                turn.incrementAndGet();
            }
        });
        other.start();
        for (int i = 0; i < 50; i++) {
            while (turn.get() % 2 == 1) Thread.onSpinWait();
            turn.incrementAndGet();
        }
        other.join();
        System.out.println("turns " + turn.get());
        Process child = new ProcessBuilder("echo", "child").start();
        System.out.println(new String(child.getInputStream().readAllBytes()).trim() + " " + child.waitFor());
    }
}
