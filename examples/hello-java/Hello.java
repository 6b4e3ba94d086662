// SPDX-License-Identifier: Apache-2.0

/** Says on which machine it runs; it is the same file on every one. */
public final class Hello {
    private Hello() {
    }

    public static void main(String[] words) {
        System.out.printf("hello from Java %s on %s %s%n", System.getProperty("java.specification.version"),
                System.getProperty("os.name"), System.getProperty("os.arch"));
    }
}
