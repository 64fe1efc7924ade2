package foggen.engine

import foggen.BundleException
import foggen.ConfigException
import foggen.bundle.ModelInfo
import foggen.bundle.readManifest
import foggen.support.TestData
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.io.File
import java.nio.FloatBuffer
import java.nio.file.Files
import java.nio.file.Path

class EngineTest {
    private fun engine(recipe: String): OrtEngine {
        val manifest = readManifest(TestData.bundle(recipe))
        val path = TestData.bundle(recipe).resolve(manifest.graph.file)
        return OrtEngine.open(path, manifest.model, manifest.graph, EngineOptions(threads = 1, spinning = false))
    }

    private fun last(logits: Logits): FloatArray = logits.row(logits.rows - 1).clone()

    @ParameterizedTest
    @ValueSource(strings = ["fp32", "fp32-positions"])
    fun `appending, rolling back and growing the cache change nothing`(bundle: String) {
        val ids = IntArray(150) { 7 * it % 1000 }
        val whole = engine("fp32").use { last(it.forward(ids)) }
        engine(bundle).use { engine ->
            engine.forward(ids.copyOf(100))
            engine.forward(intArrayOf(5, 6, 7))
            engine.truncate(100)
            assertArrayEquals(whole, last(engine.forward(ids.copyOfRange(100, 150))))
            assertEquals(150, engine.length)
            assertEquals(3, engine.forwardPasses)
            assertThrows(IllegalArgumentException::class.java) { engine.truncate(151) }
            assertThrows(IllegalArgumentException::class.java) { engine.forward(IntArray(0)) }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["fp32", "fp32-positions"])
    fun `a long prompt goes through in chunks`(bundle: String) {
        val ids = IntArray(1100) { 11 * it % 1000 }
        engine(bundle).use { engine ->
            val chunked = last(engine.forward(ids))
            assertEquals(2, engine.forwardPasses)
            engine.truncate(0)
            engine.forward(ids.copyOf(600))
            val other = last(engine.forward(ids.copyOfRange(600, 1100)))
            for (index in other.indices) assertEquals(other[index], chunked[index], 1e-4f)
        }
    }

    @Test
    fun `a snapshot fills every head of every layer`() {
        val model = ModelInfo("m", null, "a", 2, 4, 2, 3, 5, 100, intArrayOf())
        val cache = SharedCache(model, BufferAllocator.DIRECT)
        val snapshot = FloatBuffer.wrap(FloatArray(2 * 2 * 2 * 4 * 3) { it.toFloat() })
        cache.restore(snapshot, 4)
        cache.reserve(129)
        assertEquals(256, cache.buffers.capacity)
        assertEquals(4, cache.length)
        for (layer in 0..1) for (part in 0..1) for (head in 0..1) for (token in 0..3) for (at in 0..2) {
            val buffer = cache.buffers.byName.getValue("$layer.${if (part == 0) "key" else "value"}")
            val expected = ((((layer * 2 + part) * 2 + head) * 4 + token) * 3 + at).toFloat()
            assertEquals(expected, buffer.get((head * 256 + token) * 3 + at))
        }
    }

    @Test
    fun `another onnxruntime than the bundle's or ours is refused`() {
        checkVersion("1.29.0", "1.27", ONNXRUNTIME_VERSION)
        checkVersion("2.0.0", "1.27", null)
        assertThrows(BundleException::class.java) { checkVersion("1.28.0", "1.27", ONNXRUNTIME_VERSION) }
        assertThrows(BundleException::class.java) { checkVersion("1.26.2", "1.27", null) }
        assertThrows(ConfigException::class.java) { EngineOptions(threads = 0) }
    }

    @Test
    fun `what is no graph is refused`(@TempDir folder: Path) {
        val manifest = readManifest(TestData.bundle("int4"))
        val path = Files.write(folder.resolve("model.onnx"), ByteArray(100))
        assertThrows(BundleException::class.java) { OrtEngine.open(path, manifest.model, manifest.graph, EngineOptions(threads = 1)) }
    }

    @Test
    fun `threads go to physical big cores`(@TempDir folder: File) {
        fun cpu(number: Int, capacity: Int?, siblings: String) {
            val cpu = File(folder, "cpu$number")
            File(cpu, "topology").mkdirs()
            File(cpu, "topology/thread_siblings_list").writeText("$siblings\n")
            if (capacity != null) File(cpu, "cpu_capacity").writeText("$capacity\n")
        }
        for (number in 0..3) cpu(number, 250, "$number")
        for (number in 4..5) cpu(number, 800, "$number")
        cpu(6, 1024, "6")
        assertEquals(3, bigCores(folder, 7))
        for (number in 0..3) cpu(number, 1024, "${number / 2 * 2}-${number / 2 * 2 + 1}")
        assertEquals(2, bigCores(folder, 4))
        assertEquals(3, bigCores(File(folder, "none"), 3))
        assertTrue(bigCores() >= 1)
    }
}
