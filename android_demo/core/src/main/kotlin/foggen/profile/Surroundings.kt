package foggen.profile

import com.google.gson.JsonObject
import foggen.json.jsonOf
import foggen.json.jsonValue
import java.io.File
import java.io.IOException

/** What a device tells about itself; an application knows more than the kernel's files show. */
interface Surroundings {
    /** Describes the device: `board`, `cores`, `architecture`, `features`, `memory_bytes`, ... */
    fun device(): JsonObject

    /** Describes the moment: frequencies, temperatures, throttling, batteries. */
    fun conditions(): JsonObject

    /** Returns this process's memory now. */
    fun memory(): MemoryState

    /** Returns this process's largest resident memory so far, in bytes. */
    fun peakMemory(): Long?
}

/**
 * Linux, and so Android, as far as its files may be read.
 *
 * @param root where the file system begins; tests give their own
 */
class LinuxSurroundings(private val root: File = File("/")) : Surroundings {
    override fun device(): JsonObject {
        val cpus = text("proc/cpuinfo").orEmpty()
        val features = value(cpus, "flags") ?: value(cpus, "Features")
        return jsonOf(
            "board" to text("proc/device-tree/model")?.trimEnd('\u0000'),
            "cores" to cores(cpus),
            "architecture" to System.getProperty("os.arch").orEmpty(),
            "features" to features.orEmpty().split(' ').filter { it in KERNEL_FEATURES },
            "memory_bytes" to kilobytes("proc/meminfo", "MemTotal"),
            "system" to System.getProperty("os.name"),
            "kernel" to System.getProperty("os.version"),
            "python" to "none: ${System.getProperty("java.vm.name")} ${System.getProperty("java.version")}",
        )
    }

    override fun conditions(): JsonObject = jsonOf(
        "frequencies_mhz" to readings("sys/devices/system/cpu", Regex("cpu\\d+"), "cpufreq/scaling_cur_freq", 1e-3),
        "governors" to folders("sys/devices/system/cpu", Regex("cpu\\d+"))
            .mapNotNull { text("$it/cpufreq/scaling_governor") }.distinct(),
        "temperatures_c" to readings("sys/class/thermal", Regex("thermal_zone\\d+"), "temp", 1e-3),
        "throttling" to jsonValue(emptyList<Any>()),
        "power_w" to jsonValue(emptyList<Any>()),
        "batteries" to folders("sys/class/power_supply", Regex(".*")).mapNotNull { folder ->
            val charge = text("$folder/capacity")?.toDoubleOrNull()
            val status = text("$folder/status")
            if (charge == null && status == null) return@mapNotNull null
            jsonOf("name" to folder.substringAfterLast('/'), "charge_percent" to charge, "status" to status)
        },
        "load_average" to text("proc/loadavg")?.substringBefore(' ')?.toDoubleOrNull(),
    )

    override fun memory() = MemoryState(
        rss = kilobytes("proc/self/status", "VmRSS"),
        anonymous = kilobytes("proc/self/status", "RssAnon"),
        file = kilobytes("proc/self/status", "RssFile"),
        pss = kilobytes("proc/self/smaps_rollup", "Pss"),
        swap = kilobytes("proc/self/status", "VmSwap"),
    )

    override fun peakMemory(): Long? = kilobytes("proc/self/status", "VmHWM")

    private fun cores(cpus: String): List<JsonObject> {
        val name = value(cpus, "model name") ?: value(cpus, "Hardware") ?: System.getProperty("os.arch").orEmpty()
        val fastest = folders("sys/devices/system/cpu", Regex("cpu\\d+"))
            .map { text("$it/cpufreq/cpuinfo_max_freq")?.toDoubleOrNull()?.div(1e3) }
        val groups = if (fastest.isEmpty()) List(Runtime.getRuntime().availableProcessors()) { null } else fastest
        return groups.groupingBy { it }.eachCount().map { (mhz, count) -> jsonOf("name" to name, "count" to count, "max_mhz" to mhz) }
    }

    private fun readings(folder: String, names: Regex, file: String, unit: Double): List<JsonObject> =
        folders(folder, names).mapNotNull { path ->
            text("$path/$file")?.toDoubleOrNull()?.let { jsonOf("name" to path.substringAfterLast('/'), "value" to it * unit) }
        }

    private fun folders(folder: String, names: Regex): List<String> =
        File(root, folder).list().orEmpty().filter { names.matches(it) }.sorted().map { "$folder/$it" }

    private fun kilobytes(path: String, name: String): Long? =
        value(text(path).orEmpty(), name)?.substringBefore(' ')?.toLongOrNull()?.times(1024)

    private fun value(text: String, name: String): String? =
        Regex("^${Regex.escape(name)}\\s*:\\s*(.*)$", RegexOption.MULTILINE).find(text)?.groupValues?.get(1)?.trim()

    private fun text(path: String): String? =
        try {
            File(root, path).readText().trim()
        } catch (_: IOException) {
            null
        }

    private companion object {
        val KERNEL_FEATURES = setOf("amx_int8", "avx512_vnni", "avx_vnni", "avx2", "i8mm", "asimddp", "asimd", "sme", "sve", "sve2", "bf16")
    }
}
