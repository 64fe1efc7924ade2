package foggen.engine

/** Token ids in, logits out, a KV cache in between. Not for use by several threads at once. */
interface TokenEngine : AutoCloseable {
    /** Tokens held in the cache. */
    val length: Int

    /** How many last positions of a [forward] get logits. */
    val logitsTail: Int

    /** The most tokens the cache may hold. */
    val contextLength: Int

    /** Calls of the graph so far. */
    val forwardPasses: Int

    /** Forgets all but the first [length] tokens. */
    fun truncate(length: Int)

    /**
     * Appends tokens to the cache.
     *
     * @return logits of the last min(ids, [logitsTail]) of them; the next call overwrites them
     * @throws foggen.EngineException onnxruntime failed
     */
    fun forward(ids: IntArray): Logits
}

/** Rows of logits, one for each position, each as long as the vocabulary. */
interface Logits {
    val rows: Int

    /** Copies a row into an array that the next call of this function overwrites. */
    fun row(index: Int): FloatArray
}
