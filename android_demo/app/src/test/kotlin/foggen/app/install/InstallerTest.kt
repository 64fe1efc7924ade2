package foggen.app.install

import foggen.BundleException
import foggen.LocalModel
import foggen.app.support.BundleServer
import foggen.app.support.Faults
import foggen.app.support.TinyBundle
import foggen.app.support.trainedBundle
import foggen.bundle.Bundle
import foggen.bundle.readManifest
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.TimeUnit
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

class InstallerTest {
    @TempDir
    lateinit var folder: Path
    private val library get() = BundleLibrary(folder.resolve("library"))
    private val origin by lazy { TinyBundle.write(folder.resolve("origin")) }
    private val hasty = Persistence(attempts = 3, firstWaitMs = 1)

    private fun install(source: BundleSource, installer: Installer = Installer(library, hasty), report: (InstallProgress) -> Unit = {}) =
        runBlocking { installer.install(source, report) }

    private fun http(server: BundleServer) = HttpSource(server.url, allowLoopback = true)

    private fun assertInstalled(path: Path) {
        assertEquals(library.current(), path)
        for (name in readManifest(origin).files.keys) {
            assertArrayEquals(Files.readAllBytes(origin.resolve(name)), Files.readAllBytes(path.resolve(name)), name)
        }
        assertFalse(Files.exists(library.staging))
    }

    @Test
    fun `a download says how far it is, and ends with a checked bundle`() = BundleServer(origin).use { server ->
        val seen = ArrayList<InstallProgress>()
        assertInstalled(install(http(server)) { seen += it })
        val fetched = seen.filterIsInstance<InstallProgress.Fetching>().map { it.done }
        assertEquals(fetched.sorted(), fetched)
        val total = readManifest(origin).files.values.sumOf { it.bytes }
        assertEquals(total, fetched.last())
        assertEquals(InstallProgress.Checking(total, total), seen.last())
    }

    @Test
    fun `a killed process goes on where it was`() = BundleServer(origin, Faults(pauseMs = 40)).use { server ->
        val java = File(System.getProperty("java.home"), "bin/java").path
        val place = folder.resolve("library")
        val process = ProcessBuilder(java, "-cp", System.getProperty("java.class.path"), "foggen.app.support.InstallProcessKt", server.url, place.toString())
            .redirectErrorStream(true).start()
        while (server.sent.get() < TinyBundle.MODEL_BYTES / 2 && process.isAlive) Thread.sleep(5)
        assertTrue(process.isAlive, "the install ended before it was killed")
        process.destroyForcibly().waitFor(10, TimeUnit.SECONDS)
        assertNull(library.current())
        server.faults = Faults()
        val before = server.requests.size
        assertInstalled(install(http(server)))
        val resumed = server.requests.drop(before)
        assertEquals(listOf("foggen.json", "model.onnx.data"), resumed.take(2).map { it.first })
        assertTrue(resumed[1].second >= TinyBundle.MODEL_BYTES / 4, "it went on at byte ${resumed[1].second}")
    }

    @Test
    fun `responses that are cut off are continued`() = BundleServer(origin, Faults(cutAfter = 90_000)).use { server ->
        assertInstalled(install(http(server)))
        assertTrue(server.sent.get() < TinyBundle.MODEL_BYTES * 1.2)
    }

    @Test
    fun `a server without ranges is read from the start`() = BundleServer(origin, Faults(cutAfter = 300_000)).use { server ->
        assertThrows(InstallException::class.java) { install(http(server), Installer(library, Persistence(1, 1))) }
        server.faults = Faults(ranges = false)
        assertInstalled(install(http(server)))
    }

    @Test
    fun `a server that sends another part is refused`() = BundleServer(origin, Faults(cutAfter = 90_000, wrongRange = true)).use { server ->
        val error = assertThrows(InstallException::class.java) { install(http(server)) }
        assertTrue("asked for byte 90000 on" in error.message!!, error.message)
    }

    @Test
    fun `what will fail again ends the install, what may not is tried again`() = BundleServer(origin, Faults(status = 404)).use { server ->
        assertTrue("HTTP 404" in assertThrows(InstallException::class.java) { install(http(server)) }.message!!)
        assertEquals(1, server.requests.size)
        server.faults = Faults(status = 503)
        assertTrue("HTTP 503" in assertThrows(InstallException::class.java) { install(http(server)) }.message!!)
        assertEquals(1 + 3, server.requests.size)
    }

    @Test
    fun `an altered file is refused, and the bundle before it stays`() = BundleServer(origin).use { server ->
        val first = install(http(server))
        val manifest = Files.readAllBytes(origin.resolve("foggen.json"))
        TinyBundle.write(origin, seed = 7)
        val changed = Files.readAllBytes(origin.resolve("model.onnx.data")).also { it[12_345] = (it[12_345] + 1).toByte() }
        Files.write(origin.resolve("model.onnx.data"), changed)
        val error = assertThrows(BundleException::class.java) { install(http(server)) }
        assertTrue("model.onnx.data: SHA-256 must be" in error.message!!, error.message)
        assertEquals(first, library.current())
        assertArrayEquals(manifest, Files.readAllBytes(first.resolve("foggen.json")))
    }

    @Test
    fun `a staged file that was altered is noticed`() {
        val source = BundleSource { name, offset ->
            if (name == "tokenizer.json") throw InstallException("no more")
            Files.newInputStream(origin.resolve(name)).apply { dropBytes(offset) }
        }
        assertThrows(InstallException::class.java) { install(source) }
        val staged = library.staging.resolve("model.onnx.data")
        Files.write(staged, Files.readAllBytes(staged).also { it[0] = (it[0] + 1).toByte() })
        BundleServer(origin).use { server ->
            assertThrows(BundleException::class.java) { install(http(server)) }
            assertInstalled(install(http(server)))
        }
    }

    @Test
    fun `a new bundle does not go on with the parts of another`() = BundleServer(origin, Faults(cutAfter = 200_000)).use { server ->
        assertThrows(InstallException::class.java) { install(http(server), Installer(library, Persistence(1, 1))) }
        TinyBundle.write(origin, seed = 9)
        server.faults = Faults()
        assertInstalled(install(http(server)))
    }

    @Test
    fun `cancelling keeps what was fetched`() = BundleServer(origin, Faults(pauseMs = 20)).use { server ->
        runBlocking {
            val job = launch(kotlinx.coroutines.Dispatchers.IO) { Installer(library, hasty).install(http(server)) }
            while (server.sent.get() < 150_000) delay(5)
            job.cancelAndJoin()
        }
        server.faults = Faults()
        assertInstalled(install(http(server)))
        assertTrue(server.requests.last { it.first == "model.onnx.data" }.second > 0)
    }

    @Test
    fun `without room nothing is fetched`() = BundleServer(origin).use { server ->
        val error = assertThrows(InstallException::class.java) { install(http(server), Installer(library, hasty) { 1_000 }) }
        assertTrue(error.message!!.startsWith("storage: needs"), error.message)
        assertEquals(listOf("foggen.json" to 0L), server.requests.toList())
    }

    @Test
    fun `manifests that are none are refused`() {
        for (text in listOf("no JSON", "{}", """{"format_version":99}""")) {
            assertThrows(BundleException::class.java) { install({ _, _ -> text.byteInputStream() }) }
        }
        assertFalse(Files.exists(library.staging))
    }

    @Test
    fun `ZIP files with and without a folder are installed`() {
        for (prefix in listOf("", "tiny-int4/")) assertInstalled(install(ZipSource { zip(prefix).inputStream() }))
        val error = assertThrows(InstallException::class.java) { install(ZipSource { zip("a/b/").inputStream() }) }
        assertEquals("foggen.json: is not in the ZIP file", error.message)
    }

    private fun zip(prefix: String): ByteArray {
        val bytes = ByteArrayOutputStream()
        ZipOutputStream(bytes).use { zip ->
            for (name in readManifest(origin).files.keys + "foggen.json") {
                zip.putNextEntry(ZipEntry(prefix + name))
                zip.write(Files.readAllBytes(origin.resolve(name)))
            }
        }
        return bytes.toByteArray()
    }

    @Test
    fun `addresses are HTTPS, or by consent this device`() {
        checkAddress("https://example.com/b", allowLoopback = false)
        checkAddress("http://127.0.0.1:8000/b", allowLoopback = true)
        for (address in listOf("http://example.com/b", "http://localhost.example.com", "ftp://localhost/b", "b", "file:///b")) {
            assertThrows(InstallException::class.java, { checkAddress(address, allowLoopback = true) }, address)
        }
        val error = assertThrows(InstallException::class.java) { checkAddress("http://127.0.0.1/b", allowLoopback = false) }
        assertTrue("in the settings" in error.message!!)
    }

    @Test
    fun `dropping more bytes than there are fails`() {
        assertThrows(IOException::class.java) { ByteArray(3).inputStream().dropBytes(4) }
    }

    @Test
    fun `an exported bundle opens after its download`() = BundleServer(trainedBundle()).use { server ->
        val path = install(http(server))
        runBlocking { LocalModel.open(path).use { assertEquals(Bundle.open(trainedBundle()).manifest.sha256, it.bundle.manifest.sha256) } }
    }
}
