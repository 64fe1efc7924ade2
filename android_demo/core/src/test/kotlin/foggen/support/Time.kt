package foggen.support

/** Runs something, and returns how many seconds of the wall clock it took. */
fun seconds(work: () -> Unit): Double {
    val started = System.nanoTime()
    work()
    return 1e-9 * (System.nanoTime() - started)
}
