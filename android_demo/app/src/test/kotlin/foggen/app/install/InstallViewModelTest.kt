package foggen.app.install

import foggen.app.support.TinyBundle
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.CountDownLatch

class InstallViewModelTest {
    @TempDir
    lateinit var folder: Path
    private var changes = 0
    private val origin by lazy { TinyBundle.write(folder.resolve("origin")) }
    private val source = BundleSource { name, offset -> Files.newInputStream(origin.resolve(name)).apply { dropBytes(offset) } }

    private val viewModel by lazy {
        val library = BundleLibrary(folder.resolve("library"))
        InstallViewModel(library, Installer(library), CoroutineScope(Dispatchers.Unconfined), Dispatchers.IO) { changes++ }
    }

    private inline fun <reified T : InstallState> await(): T = runBlocking { withTimeout(10_000) { viewModel.state.first { it is T } as T } }

    @Test
    fun `an install ends with the bundle's description`() {
        assertEquals(InstallState.Absent, viewModel.state.value)
        viewModel.install { source }
        val installed = await<InstallState.Installed>()
        assertEquals("tiny" to "int4", installed.name to installed.recipe)
        assertEquals(1, changes)
    }

    @Test
    fun `a refused address is said`() {
        viewModel.install { HttpSource("http://example.com") }
        assertTrue("https://" in await<InstallState.Failed>().problem.message)
        assertEquals(0, changes)
    }

    @Test
    fun `stopping shows what is installed`() {
        viewModel.install { source }
        await<InstallState.Installed>()
        val held = CountDownLatch(1)
        viewModel.install { BundleSource { name, offset -> held.await(); source.open(name, offset) } }
        assertTrue(viewModel.state.value is InstallState.Working)
        viewModel.cancel()
        held.countDown()
        await<InstallState.Installed>()
    }
}
