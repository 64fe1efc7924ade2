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
    fun `a file altered after the first use is noticed, though size and time stay`(@TempDir folder: Path, @TempDir notes: Path) {
        val bundle = TestData.copy("int4", folder)
        Bundle.open(bundle, notes = notes)
        val path = bundle.resolve("model.onnx")
        val time = Files.getLastModifiedTime(path)
        val bytes = Files.readAllBytes(path)
        bytes[100] = (bytes[100] + 1).toByte()
        Files.write(path, bytes)
        Files.setLastModifiedTime(path, time)
        val error = assertThrows(BundleException::class.java) { Bundle.open(bundle, notes = notes) }
        assertTrue("SHA-256" in error.message!!, error.message)
    }

    @Test
    fun `hashes are computed once, or whenever asked for`(@TempDir folder: Path, @TempDir notes: Path) {
        val bundle = TestData.copy("int4", Files.createDirectory(folder.resolve("bundle")))
        fun hashed(place: Path, verify: Boolean = false, kept: Path? = notes): Long {
            var most = 0L
            Bundle.open(place, verify, kept) { done -> most = done }
            return most
        }
        assertTrue(hashed(bundle) > 1_000_000)
        assertEquals(0, hashed(bundle))
        assertTrue(hashed(bundle, verify = true) > 1_000_000)
        assertTrue(hashed(bundle, kept = null) > 1_000_000)
        assertEquals(0, hashed(Files.move(bundle, folder.resolve("moved"))))
        assertTrue(hashed(TestData.copy("int4", Files.createDirectory(folder.resolve("copy")))) > 1_000_000)
    }

    @Test
    fun `nothing is written into a bundle`(@TempDir folder: Path, @TempDir notes: Path) {
        val bundle = TestData.copy("int4", folder)
        fun names() = Files.list(bundle).use { files -> files.map { it.fileName.toString() }.toList().sorted() }
        val before = names()
        Bundle.open(bundle, notes = notes)
        assertEquals(before, names())
    }

    @Test
    fun `what is no file, or lies elsewhere, is refused`(@TempDir folder: Path, @TempDir elsewhere: Path) {
        for (name in listOf(MANIFEST_FILE, "model.onnx.data", "prefix_snapshot.npy")) {
            val bundle = TestData.copy("int4", Files.createDirectory(folder.resolve(name)))
            val path = bundle.resolve(name)
            val outside = Files.move(path, elsewhere.resolve(name))
            Files.createSymbolicLink(path, outside)
            assertTrue("must lie inside" in refusal(bundle), name)
            Files.delete(path)
            assertEquals(0, ProcessBuilder("mkfifo", path.toString()).start().waitFor())
            assertTrue("must be a regular file" in refusal(bundle), name)
        }
    }

    @Test
    fun `weights that are not listed are not read`(@TempDir folder: Path) {
        val bundle = TestData.copy("int4", folder)
        Files.copy(bundle.resolve("model.onnx.data"), bundle.resolve("other.onnx.data"))
        val path = bundle.resolve("model.onnx")
        val before = readManifest(bundle).files.getValue("model.onnx").sha256
        assertEquals(setOf("model.onnx.data"), externalLocations(path))
        val text = String(Files.readAllBytes(path), Charsets.ISO_8859_1).replace("model.onnx.data", "other.onnx.data")
        Files.write(path, text.toByteArray(Charsets.ISO_8859_1))
        rewrite(bundle, before, sha256(path))
        assertTrue("must read only files that are listed with their hashes, reads 'other.onnx.data'" in refusal(bundle))
    }

    @Test
    fun `a model that cannot be read for certain is refused`(@TempDir folder: Path) {
        val path = folder.resolve("model.onnx")
        for (hex in listOf("", "0b", "ffffffffffffffffffffffff", "3a7f", "0000", "3d00000000", "3a0208")) {
            Files.write(path, ByteArray(hex.length / 2) { hex.substring(2 * it, 2 * it + 2).toInt(16).toByte() })
            assertThrows(ModelFormatException::class.java, { externalLocations(path) }, hex)
        }
    }

    @Test
    fun `manifests say what is wrong with them`(@TempDir folder: Path) {
        val cases = listOf(
            Triple("\"format_version\": 1", "\"format_version\": 2", "upgrade foggen"),
            Triple("\"format_version\": 1", "\"format_version\": 0", "this library reads 1, is 0"),
            Triple("\"format_version\": 1", "\"format_version\": 1, \"extra\": 0", "unknown field 'extra'"),
            Triple("\"logits_tail\": ", "\"logits_tail\": 0.", "logits_tail: must be an integer"),
            Triple("\"num_hidden_layers\": 4", "\"num_hidden_layers\": \"4\"", "num_hidden_layers: must be an integer, is \"4\""),
            Triple("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 0", "num_hidden_layers: must be within [1, 4096], is 0"),
            Triple("\"head_dim\": ", "\"head_size\": ", "field 'head_dim' is missing"),
            Triple("\"strip_question\": false", "\"strip_question\": 0", "strip_question: must be true or false"),
            Triple("\"tau\": 0.5", "\"tau\": 1.5", "tau: must be within [0, 1], is 1.5"),
            Triple("\"chat_template.jinja\": {", "\"../chat_template.jinja\": {", "names must stay inside the bundle"),
            Triple("\"chat_template.jinja\": {", "\".verified.json\": {", "names must stay inside the bundle"),
            Triple("\"chat_template.jinja\": {", "\"*/_ORT_MEM_ADDR_/*\": {", "names must hold none of"),
            Triple("\"chat_template.jinja\": {", "\"a\\u001b[2J\": {", "names must hold none of"),
            Triple("\"chat_template.jinja\": {", "\"FogGen.json\": {", "must not list FogGen.json"),
            Triple("\"file\": \"model.onnx\"", "\"file\": \"other.onnx\"", "must list 'other.onnx'"),
            Triple("\"file\": \"model.onnx\"", "\"file\": \"model.ort\"", "must end in .onnx"),
            Triple("\"file\": \"prefix_snapshot.npy\"", "\"file\": \"/etc/outside.npy\"", "must list '/etc/outside.npy'"),
            Triple("\"loop_file\": null", "\"loop_file\": \"../loop.onnx\"", "must list '../loop.onnx'"),
            Triple("\"scales\": null", "\"scales\": \"s.npy\"", "kv_cache.scales: must be null"),
            Triple("\"onnxruntime\": \"1.27\"", "\"onnxruntime\": \"new\"", "graph.onnxruntime: must be a version"),
            Triple("\"separator_ids\": [", "\"separator_ids\": [-1, ", "template.separator_ids: ids must be within"),
            Triple("\"eos_token_ids\": [", "\"eos_token_ids\": [1000000, ", "model.eos_token_ids: ids must be within"),
            Triple("\"context_length\": 2048", "\"context_length\": 20", "model.context_length: must be above"),
            Triple("\"min_template_probability\": 0.5", "\"min_template_probability\": 1e999", "must be a number"),
            Triple("\"provenance\": {", "\"provenance\": {\"a\": 1e999, ", "JSON has no Infinity"),
            Triple("\"0.25\"", "\"NaN\"", "levels: must be numbers within [0, 1], one is 'NaN'"),
            Triple("\"0.25\"", "\"0.75\"", "levels: must be in ascending order"),
            Triple("\"0.25\"", "\"often\"", "levels: must be numbers within [0, 1], one is 'often'"),
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
