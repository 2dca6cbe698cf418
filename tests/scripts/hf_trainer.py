import tempfile

import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)


class Words(Dataset):
    def __init__(self, count):
        draw = torch.Generator().manual_seed(0)
        self.words = torch.randint(5, 50, (count, 12), generator=draw)

    def __len__(self):
        return len(self.words)

    def __getitem__(self, i):
        words = self.words[i]
        return {"input_ids": words, "labels": int(words[0] > 27)}


torch.manual_seed(0)
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
)
with tempfile.TemporaryDirectory() as folder:
    given = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=16,
        num_train_epochs=2,
        learning_rate=1e-3,
        save_strategy="no",
        eval_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        model=model, args=given, train_dataset=Words(256), eval_dataset=Words(64)
    )
    trainer.train()
print(f"done {model.classifier.weight.sum().item():.6f}")
