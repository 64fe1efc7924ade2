package foggen.app.install

import foggen.app.Problem
import foggen.app.problemOf
import foggen.bundle.readManifest
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import java.nio.file.Path

/** What the model's screen shows. */
sealed interface InstallState {
    data object Absent : InstallState

    data class Working(val progress: InstallProgress?) : InstallState

    data class Installed(val name: String, val recipe: String, val bytes: Long, val sha256: String) : InstallState

    data class Failed(val problem: Problem) : InstallState
}

/**
 * Installs bundles and says how far it is.
 *
 * @param blocking runs what reads and writes files
 * @param installed told when another bundle is there
 */
class InstallViewModel(
    private val library: BundleLibrary,
    private val installer: Installer,
    private val scope: CoroutineScope,
    private val blocking: CoroutineDispatcher,
    private val installed: suspend () -> Unit,
) {
    private val states = MutableStateFlow<InstallState>(InstallState.Absent)
    private var job: Job? = null
    val state: StateFlow<InstallState> = states

    /** Shows what is installed, unless an install runs. */
    fun refresh() {
        if (states.value is InstallState.Working) return
        scope.launch { states.value = withContext(blocking) { described(library.current()) } }
    }

    /** Starts an install; [source] may refuse its address. While one runs, another is not begun. */
    fun install(source: () -> BundleSource) {
        if (states.value is InstallState.Working) return
        states.value = InstallState.Working(null)
        job = scope.launch {
            states.value = try {
                val path = withContext(blocking) { installer.install(source()) { states.value = InstallState.Working(it) } }
                installed()
                withContext(blocking) { described(path) }
            } catch (error: Throwable) {
                InstallState.Failed(problemOf(error) ?: throw error)
            }
        }
    }

    /** Ends a running install; what was fetched is kept. */
    fun cancel() {
        val running = job?.takeIf { states.value is InstallState.Working } ?: return
        running.cancel()
        scope.launch {
            running.join()
            states.value = withContext(blocking) { described(library.current()) }
        }
    }

    private fun described(path: Path?): InstallState {
        val manifest = path?.let(::readManifest) ?: return InstallState.Absent
        return InstallState.Installed(manifest.model.name, manifest.recipe, manifest.files.values.sumOf { it.bytes }, manifest.sha256)
    }
}
