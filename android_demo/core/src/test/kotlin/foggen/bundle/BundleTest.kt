package foggen.bundle

import foggen.BundleException
import foggen.EngineFactory
import foggen.LocalModel
import foggen.OpenOptions
import foggen.support.ONE_THREAD
import foggen.support.TestData
import foggen.support.seconds
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.file.Files
import java.nio.file.Path

class BundleTest {
    private var sessions = 0
    private val counting = EngineFactory { path, model, graph -> sessions++; ONE_THREAD.open(path, model, graph) }

    /** Opens a bundle that must be refused before onnxruntime sees any of it. */
    private fun refusal(directory: Path, verify: Boolean = false): String {
        val error = assertThrows(BundleException::class.java) {
            runBlocking { LocalModel.open(directory, OpenOptions(counting, verify)) }
        }
        assertEquals(0, sessions, "a session was made")
        return error.message.orEmpty()
    }

    private fun rewrite(directory: Path, from: String, to: String) {
        val path = directory.resolve(MANIFEST_FILE)
        val text = String(Files.readAllBytes(path))
        assertTrue(from in text, from)
        Files.write(path, text.replaceFirst(from, to).toByteArray())
    }

    @Test
    fun `hashes of bundles equal Python's`() {
        val hashes = TestData.json("bundles/hashes.json").asJsonObject
        for ((recipe, hash) in hashes.entrySet()) assertEquals(hash.asString, readManifest(TestData.bundle(recipe)).sha256)
    }

    @Test
    fun `calibrating tau does not make another bundle`(@TempDir folder: Path) {
        val bundle = TestData.copy("int4", folder)
        val before = readManifest(bundle).sha256
        rewrite(bundle, "\"tau\": 0.5", "\"tau\": 0.75")
        assertEquals(0.75, readManifest(bundle).routing.tau)
        assertEquals(before, readManifest(bundle).sha256)
    }

    @Test
    fun `every file may be neither truncated nor altered nor missing`(@TempDir folder: Path) {
        val bundle = TestData.copy("int4", folder)
        for (name in readManifest(bundle).files.keys) {
            val path = bundle.resolve(name)
            val bytes = Files.readAllBytes(path)
            Files.write(path, bytes.copyOf(bytes.size - 1))
            assertTrue("must have ${bytes.size} bytes" in refusal(bundle))
            val altered = bytes.clone().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() }
            Files.write(path, altered)
            assertTrue("SHA-256 must be" in refusal(bundle))
            Files.delete(path)
            assertTrue("cannot be read" in refusal(bundle))
            Files.write(path, bytes)
        }
        runBlocking { LocalModel.open(bundle, OpenOptions(counting)).close() }
        assertEquals(1, sessions)
    }

    @Test
    fun `a file altered after the first use is noticed`(@TempDir folder: Path) {
        val bundle = TestData.copy("int4", folder)
        Bundle.open(bundle)
        assertTrue(Files.exists(bundle.resolve(".verified.json")))
        val path = bundle.resolve("model.onnx")
        val bytes = Files.readAllBytes(path)
        bytes[100] = (bytes[100] + 1).toByte()
        Files.write(path, bytes)
        Files.setLastModifiedTime(path, java.nio.file.attribute.FileTime.fromMillis(1_700_000_000_000))
        assertTrue("SHA-256" in refusal(bundle))
    }

    @Test
    fun `hashes are computed once, or whenever asked for`(@TempDir folder: Path) {
        val bundle = TestData.copy("int4", folder)
        fun hashed(verify: Boolean): Long = 0L.let { var most = it; Bundle.open(bundle, verify) { done -> most = done }; most }
        assertTrue(hashed(false) > 1_000_000)
        assertEquals(0, hashed(false))
        assertTrue(hashed(true) > 1_000_000)
    }

    @Test
    fun `manifests say what is wrong with them`(@TempDir folder: Path) {
        val cases = listOf(
            Triple("\"format_version\": 1", "\"format_version\": 2", "upgrade foggen"),
            Triple("\"format_version\": 1", "\"format_version\": 1, \"extra\": 0", "unknown field 'extra'"),
            Triple("\"logits_tail\": ", "\"logits_tail\": 0.", "logits_tail: must be an integer"),
            Triple("\"num_hidden_layers\": 4", "\"num_hidden_layers\": \"4\"", "num_hidden_layers: must be an integer, is \"4\""),
            Triple("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 0", "num_hidden_layers: must be at least 1, is 0"),
            Triple("\"head_dim\": ", "\"head_size\": ", "field 'head_dim' is missing"),
            Triple("\"strip_question\": false", "\"strip_question\": 0", "strip_question: must be true or false"),
            Triple("\"tau\": 0.5", "\"tau\": 1.5", "tau: must be within [0, 1], is 1.5"),
            Triple("\"chat_template.jinja\": {", "\"../chat_template.jinja\": {", "names must stay inside the bundle"),
            Triple("\"file\": \"model.onnx\"", "\"file\": \"other.onnx\"", "must list 'other.onnx'"),
            Triple("\"0.25\"", "\"often\"", "levels: must be numbers, one is 'often'"),
            Triple("\"head\": null", "\"head\": {\"kind\": \"all\", \"token_ids\": [], \"answer_ids\": []}", "this library has choices"),
            Triple("\"calibration\": null", "\"calibration\": {\"on\": \"expected\"}", "routing: calibration: field 'method' is missing"),
            Triple("{", "{,", "not valid JSON"),
        )
        for ((from, to, message) in cases) {
            val bundle = TestData.copy("int4", Files.createTempDirectory(folder, "bundle"))
            rewrite(bundle, from, to)
            val said = refusal(bundle)
            assertTrue(message in said, "$to: $said")
        }
        assertTrue("is no bundle" in refusal(Files.createTempDirectory(folder, "empty")))
    }

    @Test
    fun `a calibration says which confidence it compared, and its tau is the bundle's`(@TempDir folder: Path) {
        val bundle = TestData.copy("int4-expected", folder)
        assertEquals(ConfidenceKind.EXPECTED, readManifest(bundle).routing.on)
        rewrite(bundle, "\"on\": \"expected\"", "\"on\": \"median\"")
        assertTrue("calibration.on: this library has verbalized and expected, is median" in refusal(bundle))
        rewrite(bundle, "\"on\": \"median\"", "\"on\": \"verbalized\"")
        assertEquals(ConfidenceKind.VERBALIZED, readManifest(bundle).routing.on)
        rewrite(bundle, "\"tau\": 0.65", "\"tau\": 0.5")
        assertTrue("calibration.tau: must be the tau it chose, 0.5, is 0.65" in refusal(bundle))
    }

    @Test
    fun `a snapshot of other weights or of another shape is refused`(@TempDir folder: Path) {
        val bundle = TestData.copy("int4", folder)
        val manifest = readManifest(bundle)
        rewrite(bundle, manifest.snapshot!!.key, "0".repeat(64))
        sessions = -1 // the snapshot is read into the cache of an engine
        val error = assertThrows(BundleException::class.java) { runBlocking { LocalModel.open(bundle, OpenOptions(counting)) } }
        assertTrue("prefix_snapshot.key: must be ${manifest.snapshot!!.key}" in error.message!!)
        runBlocking { LocalModel.open(bundle, OpenOptions(counting, recomputePrefix = true)).use { assertEquals("recomputed", it.prefixSource) } }
        val bytes = Files.readAllBytes(bundle.resolve(manifest.snapshot!!.file))
        val tokens = manifest.prompt.prefixIds.size
        val shape = listOf(manifest.model.layers, 2, manifest.model.keyValueHeads, tokens, manifest.model.headDim)
        assertFalse(arrayIn(ByteBuffer.wrap(bytes), shape) == null)
        assertNull(arrayIn(ByteBuffer.wrap(bytes), shape.reversed()))
        assertNull(arrayIn(ByteBuffer.wrap(bytes.copyOf(bytes.size - 4)), shape))
        assertNull(arrayIn(ByteBuffer.wrap(ByteArray(4)), shape))
        val header = "'shape':(".repeat(50_000).toByteArray()
        val long = ByteBuffer.allocate(12 + header.size).order(ByteOrder.LITTLE_ENDIAN)
        long.put(bytes.copyOf(6)).put(2).put(0).putInt(header.size).put(header)
        assertTrue(seconds { assertNull(arrayIn(long, shape)) } < 1.0)
    }
}
