"""What the actor sees and may do: vocabulary, features, operators, heads."""
