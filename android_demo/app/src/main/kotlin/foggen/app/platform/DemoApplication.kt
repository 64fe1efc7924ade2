package foggen.app.platform

import android.app.Application
import android.content.Context
import android.os.Build
import foggen.OrtEngineFactory
import foggen.app.NoModelException
import foggen.app.ask.AskViewModel
import foggen.app.ask.AssistantParts
import foggen.app.ask.FlushViewModel
import foggen.app.ask.InstalledAssistant
import foggen.app.background.LongRun
import foggen.app.background.longRunOf
import foggen.app.benchmark.BenchmarkViewModel
import foggen.app.benchmark.Measuring
import foggen.app.device.DeviceSurroundings
import foggen.app.install.BundleLibrary
import foggen.app.install.InstallViewModel
import foggen.app.install.Installer
import foggen.engine.EngineOptions
import foggen.engine.turnOffTelemetry
import foggen.json.parseJson
import foggen.profile.LinuxSurroundings
import foggen.profile.Profiler
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.flow.SharingStarted
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.combine
import kotlinx.coroutines.flow.distinctUntilChanged
import kotlinx.coroutines.flow.emitAll
import kotlinx.coroutines.flow.filter
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.flow.stateIn
import kotlinx.coroutines.launch
import java.io.File
import java.io.InputStreamReader
import java.nio.file.Path

/** Puts the parts together; view models live as long as the process, so a turned screen loses nothing. */
open class DemoApplication : Application() {
    val scope = CoroutineScope(SupervisorJob() + HandlerDispatcher)
    val monitor by lazy { AndroidMonitor(this) }
    val settings by lazy { PreferenceSettings(getSharedPreferences("settings", Context.MODE_PRIVATE)) }
    val secrets by lazy { KeystoreSecrets(getSharedPreferences("secrets", Context.MODE_PRIVATE)) }
    private val library by lazy { BundleLibrary(File(noBackupFilesDir, "bundles").toPath()) }

    val assistant by lazy {
        val engine = OrtEngineFactory(EngineOptions(allocator = SharedMemoryAllocator))
        val journal = File(noBackupFilesDir, "outbox.journal").toPath()
        InstalledAssistant(AssistantParts(library, settings, secrets, monitor, engine, journal))
    }
    val asking by lazy { AskViewModel(assistant, monitor, scope) }
    val installing by lazy {
        InstallViewModel(library, Installer(library), scope, Dispatchers.IO) { assistant.reset() }
    }
    val benchmark by lazy { BenchmarkViewModel(measuring(), profiles, scope, Dispatchers.Default) }

    val flushing by lazy { FlushViewModel(assistant, scope, Dispatchers.IO) }

    /** What runs whether or not a screen shows it; null while nothing does. */
    val longRuns: StateFlow<LongRun?> by lazy {
        combine(benchmark.state, flushing.state, ::longRunOf).stateIn(scope, SharingStarted.Eagerly, null)
    }

    /** Comes before whatever else is started, be it a library's provider. */
    override fun attachBaseContext(base: Context) {
        super.attachBaseContext(base)
        turnOffTelemetry()
    }

    override fun onCreate() {
        super.onCreate()
        scope.launch {
            longRuns.map { it != null }.distinctUntilChanged().filter { it }.collect { WorkService.start(this@DemoApplication) }
        }
    }

    fun stopLongRuns() {
        benchmark.cancel()
        flushing.cancel()
    }

    /** Where profiles go, and `adb pull` finds them. */
    val profiles: Path get() = (getExternalFilesDir(null) ?: filesDir).toPath()

    /** Measures the installed bundle; tests give their own. */
    protected open fun measuring() = Measuring { request ->
        flow {
            val bundle = library.current() ?: throw NoModelException()
            assistant.reset() // two models at once would take twice the memory
            val board = "${Build.MANUFACTURER} ${Build.MODEL}"
            val surroundings = DeviceSurroundings(LinuxSurroundings(), monitor, board, "Android ${Build.VERSION.RELEASE}")
            emitAll(Profiler(surroundings, notes = library.notes).profile(bundle, request.settings(questions(), SharedMemoryAllocator)))
        }
    }

    private fun questions(): List<String> = InputStreamReader(assets.open("questions.json")).use { reader ->
        parseJson(reader).asJsonArray.map { it.asString }
    }
}
