package foggen.engine

import java.io.File
import java.io.IOException

// A core of less than this share of the fastest one's capacity slows a parallel product down.
private const val BIG_SHARE = 0.5

/**
 * Returns how many physical big cores there are, at least 1.
 *
 * Linux, and so Android, says a core's relative capacity in `cpu_capacity` (ARM's big.LITTLE) and
 * which hardware threads share it in `topology/thread_siblings_list`; where it says neither, each
 * processor counts as one big core.
 */
internal fun bigCores(
    cpus: File = File("/sys/devices/system/cpu"),
    processors: Int = Runtime.getRuntime().availableProcessors(),
): Int {
    val folders = (0 until processors).map { File(cpus, "cpu$it") }
    val capacities = folders.associateWith { read(File(it, "cpu_capacity"))?.toIntOrNull() ?: 1 }
    val fastest = capacities.values.maxOrNull() ?: 1
    val big = folders.filter { capacities.getValue(it) >= BIG_SHARE * fastest }
    return maxOf(1, big.map { read(File(it, "topology/thread_siblings_list")) ?: it.name }.distinct().size)
}

private fun read(file: File): String? =
    try {
        file.readText().trim()
    } catch (_: IOException) {
        null
    }
