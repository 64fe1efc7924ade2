package foggen.support

import foggen.EngineFactory
import foggen.LoadedEngine
import foggen.OpenOptions
import foggen.OrtEngineFactory
import foggen.engine.EngineOptions
import foggen.engine.Logits
import foggen.engine.TokenEngine

val ONE_THREAD = OrtEngineFactory(EngineOptions(threads = 1, spinning = false))

/** Notes for each forward pass how many tokens it took and how many the cache then held. */
class RecordingEngine(private val engine: TokenEngine) : TokenEngine by engine {
    val passes = ArrayList<List<Int>>()
    var fed = ArrayList<Int>()

    override fun forward(ids: IntArray): Logits =
        engine.forward(ids).also {
            passes += listOf(ids.size, engine.length)
            fed.addAll(ids.toList())
        }
}

/** Opens with an engine that records; it is kept in [engine]. */
class RecordingFactory(private val factory: EngineFactory = ONE_THREAD) : EngineFactory {
    var engine: RecordingEngine? = null

    override fun open(path: java.nio.file.Path, model: foggen.bundle.ModelInfo, graph: foggen.bundle.GraphInfo): LoadedEngine {
        val loaded = factory.open(path, model, graph)
        val recording = RecordingEngine(loaded.engine).also { engine = it }
        return LoadedEngine(recording, loaded.restore)
    }

    val options get() = OpenOptions(engine = this)
}
