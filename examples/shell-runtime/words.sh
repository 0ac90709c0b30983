# Counts the words of an event's text. What goes to stderr is the log; stdout is the answer.
count() {
  text=$(printf '%s' "$1" | sed -n 's/.*"text": *"\([^"]*\)".*/\1/p')
  if [ -z "$text" ]; then
    echo "no text in the event" >&2
    return 1
  fi
  echo "counting ${#text} characters" >&2
  printf '{"words": %d, "by": "%s"}' "$(printf '%s' "$text" | wc -w)" "$AWS_LAMBDA_FUNCTION_NAME"
}
