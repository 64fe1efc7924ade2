package foggen.app.screens

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View
import foggen.app.R

/**
 * One bar.
 *
 * @property share of the width that is filled, within [0, 1]
 * @property mark where a thin line goes on to, within [0, 1]; null for none
 */
class Row(val label: String, val value: String, val share: Double, val mark: Double? = null)

// A bar is not worth drawing in less than the rest.
private const val MOST_WORDS = 0.6f

/** Bars with labels and values, e.g. the probability of each confidence level. */
class RowsView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val unit = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_DIP, 1f, resources.displayMetrics)
    private val text = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        textSize = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, 14f, resources.displayMetrics)
        color = context.getColor(R.color.text)
    }
    private val bar = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = context.getColor(R.color.bar) }
    private val track = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = context.getColor(R.color.track) }
    private val line get() = text.fontSpacing + 8 * unit
    private var rows: List<Row> = emptyList()

    /**
     * Shows bars; nothing, not even the space for them, where there are none.
     *
     * @param heading what the bars are, for who hears them
     */
    fun show(heading: String, rows: List<Row>) {
        this.rows = rows
        visibility = if (rows.isEmpty()) GONE else VISIBLE
        contentDescription = heading + ": " + rows.joinToString(", ") { "${it.label} ${it.value}" }
        requestLayout()
        invalidate()
    }

    override fun onMeasure(width: Int, height: Int) {
        val across = MeasureSpec.getSize(width)
        val lines = rows.size * if (isStacked(across)) 2 else 1
        setMeasuredDimension(across, resolveSize((lines * line).toInt(), height))
    }

    override fun onDraw(canvas: Canvas) {
        val stacked = isStacked(width)
        val right = layoutDirection == LAYOUT_DIRECTION_RTL
        val pitch = if (stacked) 2 * line else line
        rows.forEachIndexed { index, row ->
            val top = index * pitch
            val base = top + 4 * unit - text.ascent()
            text.textAlign = if (right) Paint.Align.RIGHT else Paint.Align.LEFT
            canvas.drawText(row.label, if (right) width.toFloat() else 0f, base, text)
            text.textAlign = if (right) Paint.Align.LEFT else Paint.Align.RIGHT
            canvas.drawText(row.value, if (right) 0f else width.toFloat(), base, text)
            val span = if (stacked) {
                Span(0f, width.toFloat(), top + line, top + pitch - 10 * unit)
            } else {
                Span(widest { it.label }, width - widest { it.value }, top + 5 * unit, top + pitch - 5 * unit)
            }
            drawBar(canvas, row, span, right)
        }
    }

    private fun widest(word: (Row) -> String): Float = (rows.maxOfOrNull { text.measureText(word(it)) } ?: 0f) + 8 * unit

    /** Whether words and bars have lines of their own, for want of room beside each other. */
    private fun isStacked(across: Int): Boolean = widest { it.label } + widest { it.value } > MOST_WORDS * across

    private class Span(val start: Float, val end: Float, val top: Float, val bottom: Float)

    private fun drawBar(canvas: Canvas, row: Row, span: Span, right: Boolean) {
        fun fill(share: Double, top: Float, bottom: Float, paint: Paint) {
            val length = (share.coerceIn(0.0, 1.0) * (span.end - span.start)).toFloat()
            val left = if (right) width - span.start - length else span.start
            canvas.drawRoundRect(left, top, left + length, bottom, 3 * unit, 3 * unit, paint)
        }
        val middle = (span.top + span.bottom) / 2
        fill(1.0, span.top, span.bottom, track)
        row.mark?.let { fill(it, middle - unit, middle + unit, bar) }
        fill(row.share, span.top, span.bottom, bar)
    }
}
