package foggen.engine

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths

/** What the processes of these tests run: it loads onnxruntime's library. */
fun main() = println(Onnxruntime.environment.version)

class TelemetryTest {
    private class Ended(val status: Int, val output: String, val files: List<String>)

    private val classPath = (System.getProperty("surefire.test.class.path") ?: System.getProperty("java.class.path"))
        .split(File.pathSeparator)

    /** Runs `main` in a fresh process of a user who never ran anything. */
    private fun load(root: Path, classPath: List<String> = this.classPath, more: Map<String, String> = emptyMap()): Ended {
        val java = Paths.get(System.getProperty("java.home"), "bin", "java").toString()
        val path = classPath.joinToString(File.pathSeparator)
        val builder = ProcessBuilder(java, "-Djava.io.tmpdir=$root", "-cp", path, "foggen.engine.TelemetryTestKt")
        // Nothing else: onnxruntime keeps still by itself where CI=true, for one.
        builder.environment().clear()
        builder.environment() += mapOf("HOME" to "$root/home", "XDG_CACHE_HOME" to "$root/cache", "TMPDIR" to "$root") + more
        val process = builder.redirectErrorStream(true).start()
        val output = process.inputStream.bufferedReader().readText()
        val files = Files.walk(root).use { found -> found.filter { Files.isRegularFile(it) }.map { "$it" }.toList() }
        return Ended(process.waitFor(), output, files.map { it.removePrefix("$root/") })
    }

    @Test
    fun `a process that loads onnxruntime leaves no file of its telemetry`(@TempDir root: Path) {
        val ended = load(root)
        assertEquals(ONNXRUNTIME_VERSION, ended.output.trim())
        assertEquals(emptyList<String>(), ended.files)
    }

    @Test
    fun `who wants it can have it, and this test would see it`(@TempDir root: Path) {
        val ended = load(root, more = mapOf("FOGGEN_ORT_TELEMETRY" to "1"))
        assertTrue(ended.files.any { "onnxruntime" in it }, "${ended.files}")
    }

    @Test
    fun `where nothing can turn it off, onnxruntime is not loaded`(@TempDir root: Path) {
        val withoutJna = classPath.filter { !File(it).name.startsWith("jna") }
        val refused = load(root, withoutJna)
        assertTrue("set ORT_DISABLE_TELEMETRY=1 in its environment" in refused.output, refused.output)
        assertEquals(1 to emptyList<String>(), refused.status to refused.files)
        val told = load(root, withoutJna, mapOf("ORT_DISABLE_TELEMETRY" to "1"))
        assertEquals(0 to emptyList<String>(), told.status to told.files)
    }

    @Test
    fun `there is no other way to onnxruntime`() {
        val sources = listOf("src", "../app/src").map { File(it) }.flatMap { it.walk().toList() }.filter { it.extension == "kt" }
        val reaching = sources.filter { "OrtEnvironment.getEnvironment" in it.readText() }.map { it.name }
        assertEquals(listOf("Onnxruntime.kt", "TelemetryTest.kt"), reaching.sorted())
    }
}
